//! Bytes in, bytes out: the same for every transport.
//!
//! [`judge`] turns a packet into a [`Verdict`]; a hit or an error is written where the packet was received, a
//! miss is handed to `resolve` with somebody who will take the answer. `udp` and `stream` own the sockets, `client`
//! says who may ask.

pub mod client;
mod front;
pub mod stream;
mod told;
pub mod udp;

pub use front::{Door, Front, Verdict, judge};
