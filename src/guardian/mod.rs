//! The guardian: the small parent that owns the network, and watches and replaces the server.

pub mod control;
pub mod duty;
pub mod instances;
pub mod probe;
