//! The kernel, as far as the standard library does not reach: the only unsafe code of the project lives here.

pub mod clock;
pub mod code;
pub mod confine;
pub mod file;
pub mod interfaces;
pub mod memory;
pub mod mmsg;
mod origin;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod steer;
pub mod tun;
