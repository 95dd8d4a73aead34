//! Look up and store whole answers. Knows neither upstreams nor clients; time is passed in.

pub mod entry;
pub mod hot;
pub mod key;
pub mod persist;
pub mod policy;
pub mod store;

pub use entry::Entry;
pub use hot::Hot;
pub use key::{Flags, Key, Seed};
pub use policy::{Prefetch, Stale, Ttls};
pub use store::{Kind, Store};
