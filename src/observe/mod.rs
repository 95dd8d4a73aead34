//! What the daemon says of itself: metrics and logs.
//!
//! Everything here is bounded: label values by [`labels`], log lines by [`limit`], and no writer ever waits for a reader.
//! Serving the metrics over HTTP is the business of `admin`.

pub mod cells;
pub mod conntrack;
pub mod coredns;
pub mod errors;
pub mod holder;
pub mod labels;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod queries;
pub mod querylog;
pub mod rules;
pub mod sink;
mod writer;
