//! Readiness: a set of named conditions that must all hold, and every listen address really answering.
//!
//! Whoever brings a part up registers a condition and says when it holds; dropping the condition says that its part is
//! gone, so that a part that dies cannot leave the daemon looking ready. Listen addresses are probed on demand, at most
//! one round at a time and one per second.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::probe;
use crate::observe::queries::{Label, Proto};
use crate::sys::clock::{Clock, Moment};

/// For how long the result of a round of probes is repeated.
const REPEAT: Duration = Duration::from_secs(1);

/// Everything that must hold before clients may be sent here.
#[derive(Debug)]
pub struct Readiness {
    clock: Clock,
    conditions: Mutex<Vec<Arc<Entry>>>,
    listeners: Mutex<Arc<[SocketAddr]>>,
    /// Held while probing: whoever else asks waits, and is then told the same.
    round: tokio::sync::Mutex<Option<Round>>,
    /// Why this process can do no good however long it lives.
    sick: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    state: Mutex<State>,
}

/// Does it hold, and why (not)?
#[derive(Clone, Debug)]
struct State {
    holds: bool,
    reason: String,
}

#[derive(Debug)]
struct Round {
    at: Moment,
    listeners: Arc<[SocketAddr]>,
    lines: Vec<Line>,
}

/// One condition in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What must hold.
    pub name: String,
    /// Does it?
    pub holds: bool,
    /// Why, or why not; may be empty.
    pub reason: String,
}

/// All conditions at one time. Printed one to a line, the verdict first.
#[derive(Clone, Debug)]
pub struct Report(pub Vec<Line>);

/// One named condition, in the hands of the part that it speaks of.
#[derive(Debug)]
pub struct Condition(Arc<Entry>);

impl Readiness {
    /// Ready as it stands: with no conditions and no listeners.
    pub fn new(clock: Clock) -> Arc<Readiness> {
        Arc::new(Readiness {
            clock,
            conditions: Mutex::default(),
            listeners: Mutex::new([].into()),
            round: tokio::sync::Mutex::default(),
            sick: Mutex::default(),
        })
    }

    /// Says why only another process could do any good, or that this one can.
    pub fn set_sick(&self, why: Option<String>) {
        *lock(&self.sick) = why;
    }

    /// What was said last to [`Readiness::set_sick`].
    pub fn sick(&self) -> Option<String> {
        lock(&self.sick).clone()
    }

    /// Adds a condition, which does not hold yet.
    pub fn register(&self, name: impl Into<String>) -> Condition {
        let state = Mutex::new(State { holds: false, reason: "not yet".to_owned() });
        let entry = Arc::new(Entry { name: name.into(), state });
        lock(&self.conditions).push(entry.clone());
        Condition(entry)
    }

    /// Takes a condition away: its part is not needed any more.
    pub fn retire(&self, condition: &Condition) {
        lock(&self.conditions).retain(|entry| !Arc::ptr_eq(entry, &condition.0));
    }

    /// Names the addresses that must answer over UDP and over TCP, in place of those named before.
    pub fn listeners(&self, addresses: &[SocketAddr]) {
        *lock(&self.listeners) = addresses.into();
    }

    /// How things stand, after probing the listeners unless that was done within the last second.
    pub async fn report(&self) -> Report {
        let mut lines = self.probes().await;
        let line = |entry: &Arc<Entry>| {
            let State { holds, reason } = lock(&entry.state).clone();
            Line { name: entry.name.clone(), holds, reason }
        };
        lines.extend(lock(&self.conditions).iter().map(line));
        Report(lines)
    }

    async fn probes(&self) -> Vec<Line> {
        let mut round = self.round.lock().await;
        let listeners = lock(&self.listeners).clone();
        let now = self.clock.now();
        if let Some(last) = &*round
            && Arc::ptr_eq(&last.listeners, &listeners)
            && now < last.at + REPEAT
        {
            return last.lines.clone();
        }
        let both = |&address| Proto::ALL.iter().map(move |&proto| probe(proto, address));
        let lines = join_all(listeners.iter().flat_map(both)).await;
        *round = Some(Round { at: self.clock.now(), listeners, lines: lines.clone() });
        lines
    }
}

/// Asks a listener and writes down what came of it.
async fn probe(proto: Proto, address: SocketAddr) -> Line {
    let outcome = match proto {
        Proto::Udp => probe::udp(address).await,
        Proto::Tcp => probe::tcp(address).await,
    };
    let name = format!("{} {address}", proto.name());
    let reason = outcome.as_ref().map_or_else(ToString::to_string, |()| "answers".to_owned());
    Line { name, holds: outcome.is_ok(), reason }
}

impl Condition {
    /// Says whether the condition holds, and why.
    pub fn set(&self, holds: bool, reason: impl Into<String>) {
        *lock(&self.0.state) = State { holds, reason: reason.into() };
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.set(false, "its owner is gone");
    }
}

impl Report {
    /// Do all conditions hold?
    pub fn ready(&self) -> bool {
        self.0.iter().all(|line| line.holds)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.ready() { "ready" } else { "not ready" })?;
        for Line { name, holds, reason } in &self.0 {
            let mark = if *holds { "ok" } else { "FAILED" };
            // Reasons quote errors, and those may quote anything.
            writeln!(f, "{mark:<6} {}: {}", name.escape_debug(), reason.escape_debug())?;
        }
        Ok(())
    }
}

/// Locks, even if a holder has panicked: what is behind these locks is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

    fn manual() -> (Arc<Readiness>, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(5_000));
        (Readiness::new(Clock::Manual(now.clone())), now)
    }

    #[tokio::test]
    async fn ready_when_all_conditions_hold() {
        let (readiness, _) = manual();
        assert!(readiness.report().await.ready());
        let upstream = readiness.register("upstream");
        let cache = readiness.register("cache");
        cache.set(true, "loaded");
        let report = readiness.report().await;
        assert!(!report.ready());
        assert_eq!(report.to_string(), "not ready\nFAILED upstream: not yet\nok     cache: loaded\n");
        upstream.set(true, "10.96.0.10:53 answered");
        assert!(readiness.report().await.ready());
        drop(cache);
        let report = readiness.report().await;
        assert!(!report.ready(), "a part that is gone does not count as ready");
        assert!(report.to_string().contains("FAILED cache: its owner is gone\n"));
    }

    #[tokio::test]
    async fn a_retired_condition_is_not_asked_for() {
        let (readiness, _) = manual();
        let old = readiness.register("old");
        readiness.retire(&old);
        drop(old);
        assert_eq!(readiness.report().await.to_string(), "ready\n");
    }

    #[tokio::test]
    async fn f15_a_reason_cannot_add_a_line() {
        let (readiness, _) = manual();
        let upstream = readiness.register("upstream");
        upstream.set(false, "said \"x\nok     udp\"");
        assert_eq!(readiness.report().await.to_string().lines().count(), 2);
    }

    /// A UDP responder that counts probes, each once however often it is sent, on an address where TCP is closed.
    async fn responder() -> (SocketAddr, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let mut seen = HashSet::new();
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                seen.insert((from, [buffer[0], buffer[1]]));
                count.store(seen.len(), Ordering::SeqCst);
                buffer[2] |= 0x80;
                socket.send_to(&buffer[..len], from).await.unwrap();
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn g13_udp_alive_and_tcp_dead_is_not_ready() {
        let (readiness, _) = manual();
        let (address, _) = responder().await;
        readiness.listeners(&[address]);
        let report = readiness.report().await;
        assert!(!report.ready());
        let holds: Vec<_> = report.0.iter().map(|line| (line.name.clone(), line.holds)).collect();
        assert_eq!(holds, [(format!("udp {address}"), true), (format!("tcp {address}"), false)]);
        assert!(report.0[1].reason.contains("refused"), "{}", report.0[1].reason);
    }

    #[tokio::test]
    async fn probes_are_repeated_once_a_second_and_never_beside_each_other() {
        let (readiness, now) = manual();
        let (address, asked) = responder().await;
        readiness.listeners(&[address]);
        let together = join_all((0..8).map(|_| readiness.report())).await;
        assert!(together.iter().all(|report| report.0[0].holds));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        now.fetch_add(999_000_000, Ordering::Relaxed);
        readiness.report().await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        now.fetch_add(1_000_000, Ordering::Relaxed);
        readiness.report().await;
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        readiness.listeners(&[address]);
        readiness.report().await;
        assert_eq!(asked.load(Ordering::SeqCst), 3, "what was learnt of other listeners does not count");
    }

    #[tokio::test]
    async fn a_tcp_listener_that_answers_holds() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (readiness, _) = manual();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        readiness.listeners(&[listener.local_addr().unwrap()]);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 512];
            let len = stream.read(&mut buffer).await.unwrap();
            buffer[4] |= 0x80;
            stream.write_all(&buffer[..len]).await.unwrap();
        });
        let report = readiness.report().await;
        assert_eq!(report.0[1], Line { name: report.0[1].name.clone(), holds: true, reason: "answers".to_owned() });
    }
}
