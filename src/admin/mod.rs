//! What operators and probes reach over HTTP: `/metrics`, `/health`, `/ready`.
//!
//! Owns the listeners' manners (limits, time-outs) and what readiness means. Apart from the probes it sends to itself it
//! stays off the path of queries: whatever is done to these ports, DNS goes on.

pub mod http;
pub mod listen;
pub mod probe;
pub mod ready;

pub use http::{Limits, Routes, serve};
pub use listen::bind;
