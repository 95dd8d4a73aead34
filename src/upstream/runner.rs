//! What a race keeps in mind: of each server, of each try under way, and when the next one is due. Pure.

use super::{Error, Reply, Transport};
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// The first interval after which a query is sent again over UDP; later ones are a seventh of the timeout. In the time that
/// a client has, that makes sixteen tries, of which one gets through where three of ten datagrams are lost each way.
const RESEND: Duration = Duration::from_millis(200);

/// Why another try begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// None is under way, or one has failed.
    Needed,
    /// It takes longer than usual.
    Hedge,
    /// The server has fallen silent.
    Silent,
    /// Those under way are slow.
    Slow,
}

/// What the query knows of each server.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    pub(super) tries: u8,
    pub(super) running: u8,
    pub(super) breaks: u8,
    pub(super) barred: bool,
}

/// A try under way.
pub(super) struct Runner<'a> {
    pub(super) server: usize,
    pub(super) transport: Transport,
    pub(super) started: Instant,
    /// When it is asked whether the server is silent, and again, whether the connection is dead; `None` after that.
    pub(super) suspect_at: Option<Instant>,
    /// The server was suspected.
    pub(super) suspected: bool,
    pub(super) expires: Instant,
    pub(super) hedge: bool,
    pub(super) answer: Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>,
}

/// When the next try of a race is due although none has failed.
#[derive(Debug, Default)]
pub(super) struct Timing {
    hedge_at: Option<Instant>,
    slow_at: Option<Instant>,
    begun: u32,
}

impl Timing {
    /// A try begins: when it counts as slow depends, over UDP, on how many came before it.
    pub(super) fn begin(&mut self, now: Instant, transport: Transport, suspicion: Duration, timeout: Duration) {
        let patience = match transport {
            Transport::Tcp | Transport::Tls => timeout / 2,
            Transport::Udp => (suspicion.max(RESEND) * 2u32.pow(self.begun.min(8))).min(RESEND.max(timeout / 7)),
        };
        self.slow_at = Some(now + patience);
        self.begun += 1;
    }

    /// Has any try begun?
    pub(super) fn has_begun(&self) -> bool {
        self.begun > 0
    }

    /// A hedge is due then.
    pub(super) fn hedge_at(&mut self, at: Instant) {
        self.hedge_at = Some(at);
    }

    /// The next event.
    pub(super) fn next(&self) -> Option<Instant> {
        self.hedge_at.into_iter().chain(self.slow_at).min()
    }

    /// What is due at `now`, once each: a hedge, a try because those under way are slow.
    pub(super) fn take(&mut self, now: Instant) -> (bool, bool) {
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        (due(&mut self.hedge_at), due(&mut self.slow_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn d14_datagrams_are_sent_again_often_enough() {
        let (start, mut now) = (Instant::now(), Instant::now());
        let (mut timing, mut at) = (Timing::default(), Vec::new());
        for _ in 0..6 {
            timing.begin(now, Transport::Udp, 200 * MS, 2000 * MS);
            now = timing.next().unwrap();
            assert_eq!(timing.take(now), (false, true));
            at.push((now - start).as_millis());
        }
        assert_eq!(at, [200, 485, 771, 1057, 1342, 1628]);
    }

    #[test]
    fn each_event_is_due_once() {
        let now = Instant::now();
        let mut timing = Timing::default();
        assert!(!timing.has_begun());
        timing.begin(now, Transport::Tcp, 200 * MS, 2000 * MS);
        timing.hedge_at(now + 30 * MS);
        assert_eq!(timing.take(now), (false, false));
        assert_eq!(timing.next(), Some(now + 30 * MS));
        assert_eq!(timing.take(now + 31 * MS), (true, false));
        assert_eq!(timing.next(), Some(now + 1000 * MS));
        assert_eq!(timing.take(now + 1000 * MS), (false, true));
        assert_eq!(timing.next(), None);
        assert!(timing.has_begun());
    }
}
