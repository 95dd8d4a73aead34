//! What the daemon says of itself: metrics and logs.

pub mod cells;
