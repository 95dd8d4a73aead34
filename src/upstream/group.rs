//! The servers that answer for a zone, replaceable while queries are under way.

use super::hedge::Budget;
use super::race;
use super::server::Server;
use super::stats::Tally;
use super::{Condition, Endpoint, Exchange, Exchanged, Options, Query};
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// For how long after its last answer a group of which nobody works counts as shaken.
const SHAKEN: Duration = Duration::from_secs(5);
/// How often the servers of a group that fails fast are looked at while none works; CoreDNS does it as often.
const LOOK: Duration = Duration::from_millis(500);

/// A set of servers any of which may be asked. Share it behind an `Arc`.
pub struct Group {
    options: Options,
    servers: ArcSwap<Vec<Arc<Server>>>,
    sockets: Arc<Semaphore>,
    turn: AtomicUsize,
    budget: Budget,
    tally: Arc<Tally>,
    /// When the servers are looked at next while none works.
    look: Mutex<Option<Instant>>,
}

impl Group {
    /// A group of `servers`; without any, every exchange fails with [`super::Error::NoServers`]. Nothing is connected
    /// before the first query.
    pub fn new<E: Clone + Into<Endpoint>>(options: Options, servers: &[E]) -> Group {
        let sockets = Arc::new(Semaphore::new(options.max_sockets.min(Semaphore::MAX_PERMITS)));
        let (turn, budget, tally) = (AtomicUsize::new(0), Budget::default(), Arc::default());
        let look = Mutex::default();
        let group = Group { options, servers: ArcSwap::default(), sockets, turn, budget, tally, look };
        group.set_servers(servers);
        group
    }

    /// The same, counting into `tally`.
    pub fn counted_in(mut self, tally: Arc<Tally>) -> Group {
        self.tally = tally;
        self
    }

    /// Replaces the servers, duplicates left out. Those that stay keep their connections and history; those that go
    /// finish the queries they have.
    pub fn set_servers<E: Clone + Into<Endpoint>>(&self, servers: &[E]) {
        let old = self.servers.load_full();
        let mut new: Vec<Arc<Server>> = Vec::new();
        for endpoint in servers.iter().cloned().map(Into::into) {
            if new.iter().any(|s| *s.endpoint() == endpoint) {
                continue;
            }
            let kept = old.iter().find(|s| *s.endpoint() == endpoint).cloned();
            new.push(kept.unwrap_or_else(|| Arc::new(Server::new(endpoint, self.options, self.sockets.clone()))));
        }
        let gone = old.iter().filter(|s| new.iter().all(|n| n.endpoint() != s.endpoint())).cloned().collect::<Vec<_>>();
        self.servers.store(Arc::new(new));
        gone.iter().for_each(|server| server.pool.drain());
    }

    /// The servers, in the order given.
    pub fn servers(&self) -> Vec<Arc<Server>> {
        self.servers.load().to_vec()
    }

    /// How the group behaves.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where it counts what is counted of all groups together.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Is it time to look whether any server is back? It is then not again for a while.
    pub(super) fn may_look_again(&self, now: Instant) -> bool {
        let mut next = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.is_none_or(|next| next <= now);
        if due {
            *next = Some(now + LOOK);
        }
        due
    }

    /// How it is with the servers but for those `left_out`.
    pub(super) fn condition_without(&self, left_out: impl Fn(&Server) -> bool) -> Condition {
        let (servers, now) = (self.servers.load(), Instant::now());
        let any = |is: &dyn Fn(&Server) -> bool| servers.iter().any(|server| !left_out(server) && is(server));
        if any(&|server| server.way(now).1.is_reachable()) {
            Condition::Well
        // Whoever wants a failure at once does not want it to be waited for whether that passes.
        } else if !self.options.fail_fast && any(&|server| server.worked_within(SHAKEN, now)) {
            Condition::Shaken
        } else {
            Condition::Down
        }
    }

    /// The servers for one query, and its number.
    pub(super) fn turn(&self) -> (Arc<Vec<Arc<Server>>>, usize) {
        (self.servers.load_full(), self.turn.fetch_add(1, Relaxed))
    }

    /// Pays for a hedge out of the queries so far, if these suffice.
    pub(super) fn pay_for_a_hedge(&self) -> bool {
        self.budget.pay(self.turn.load(Relaxed))
    }
}

impl Exchange for Group {
    fn exchange<'a>(&'a self, query: Query<'a>, deadline: Instant) -> Exchanged<'a> {
        Box::pin(race::run(self, query, deadline, |_| false))
    }

    fn condition(&self) -> Condition {
        self.condition_without(|_| false)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.servers.load().iter().for_each(|server| server.pool.drain());
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("options", &self.options).field("servers", &self.servers()).finish()
    }
}
