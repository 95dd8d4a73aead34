//! The way from one zone to a group of servers: to all of them but those that send this zone's queries back to us.
//!
//! The mark belongs to zone and server together. A kube-dns that answers for the cluster's own names may pass on all
//! others, and these alone may come back: asked for the first it must go on being asked.

use super::race;
use super::server::Server;
use super::{Condition, Exchange, Exchanged, Group, Query};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// A zone's way to a [`Group`].
#[derive(Debug)]
pub struct Route {
    group: Arc<Group>,
    looping: Mutex<Vec<Arc<Server>>>,
    /// Whether there are any: while there are none, a query costs one load more.
    some: AtomicBool,
}

impl Route {
    /// To all servers of `group`.
    pub fn new(group: Arc<Group>) -> Route {
        Route { group, looping: Mutex::default(), some: AtomicBool::new(false) }
    }

    /// The servers it leads to, marked or not.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Marks `server` as one that sends the zone's queries back to us, and is not to be asked; or takes the mark away.
    pub fn mark(&self, server: &Arc<Server>, looping: bool) {
        let mut marked = self.marked();
        marked.retain(|known| !Arc::ptr_eq(known, server));
        if looping {
            marked.push(Arc::clone(server));
        }
        self.some.store(!marked.is_empty(), Relaxed);
    }

    /// Is `server` marked?
    pub fn is_looping(&self, server: &Server) -> bool {
        self.some.load(Relaxed) && self.marked().iter().any(|known| std::ptr::eq(&**known, server))
    }

    fn marked(&self) -> MutexGuard<'_, Vec<Arc<Server>>> {
        self.looping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange for Route {
    fn exchange<'a>(&'a self, query: Query<'a>, deadline: Instant) -> Exchanged<'a> {
        Box::pin(race::run(&self.group, query, deadline, |server| self.is_looping(server)))
    }

    fn condition(&self) -> Condition {
        self.group.condition_without(|server| self.is_looping(server))
    }
}
