//! A node of a cluster in network namespaces: pods, kube-dns, kube-proxy, and a nodens in between. Nothing of the host's
//! own network is touched.
//!
//! `World::new` makes it, or says why not and gives `None`. Everything ends with the test, however that ends: whatever
//! runs in a namespace holds an end of a pipe, or is killed with its parent.

// Each test binary compiles this for itself and uses a part of it.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

pub mod cgroup;
pub mod chain;
pub mod clients;
pub mod container;
pub mod guardian;
pub mod namespace;
pub mod node_cache;
pub mod proxy;
pub mod report;
pub mod topology;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use topology::World;

/// The address for DNS on the node, and the one of the kube-dns Service, both families.
pub const LOCAL: [&str; 2] = ["169.254.20.10", "fd00:169::10"];
/// The address of the Service `kube-dns`.
pub const VIP: [&str; 2] = ["10.96.0.10", "fd00:96::a"];
/// The address of the Service `kube-dns-upstream`.
pub const UPSTREAM: [&str; 2] = ["10.96.0.11", "fd00:96::b"];
/// The two kube-dns pods.
pub const BACKENDS: [[&str; 2]; 2] = [["10.244.9.11", "fd00:244:9::11"], ["10.244.9.12", "fd00:244:9::12"]];

/// Keeps the other tests of this binary waiting: what is measured here are times, and processors are few.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `holds`, for at most `patience`; says after how long it did.
pub fn within(patience: Duration, mut holds: impl FnMut() -> bool) -> Option<Duration> {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > patience {
            return None;
        }
        // Polling, with no meaning for the outcome.
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(begin.elapsed())
}
