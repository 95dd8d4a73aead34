//! DNS on the wire: pure, no I/O, no clock, no allocation on the hit path, no index that could panic.

#![deny(clippy::indexing_slicing)]

pub mod edns;
pub mod header;
pub mod message;
pub mod mnemonic;
pub mod names;
pub mod presentation;
pub mod probe;
pub mod query;
pub mod question;
pub mod record;
pub mod reply;
pub mod rr;
pub mod validate;
