//! What the daemon says of itself: metrics and logs.
//!
//! Everything here is bounded: label values by [`labels`], log lines by [`log`] and [`limit`], writers by never waiting.
//! Serving the metrics over HTTP is the business of `admin`.

pub mod cells;
pub mod labels;
pub mod limit;
pub mod metrics;
pub mod queries;
pub mod sink;
