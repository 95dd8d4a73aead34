//! How a guardian ends.
//!
//! A stop goes in this order. With a successor that serves: our sockets leave their groups, what was queued is answered,
//! and only then our rules go; the successor's are the same, and nobody notices. While one is starting, we wait for it.
//! Alone: TCP connections are brought to their ends, the rules go, so that new packets find kube-dns, then what was queued
//! is answered.

use super::super::Error;
use super::super::control::Order;
use super::super::instances::Stage;
use super::Watch;
use crate::sys::clock::Moment;
use std::time::Duration;

/// How long a stop waits for a successor that is starting.
const SUCCESSOR: Duration = Duration::from_secs(10);
/// How long TCP connections are given to end behind an answer.
const FAREWELL: Duration = Duration::from_millis(250);
/// How long a server may take to answer what it owes: its own limit, and some more.
const DRAIN: Duration = Duration::from_secs(7);

/// How far a stop is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// There is none.
    Not,
    /// For a successor, until then.
    Waiting(Moment),
    /// For TCP connections to end, until then: without our rules their packets go astray. A lame duck takes longer.
    Parting(Moment),
    /// For what is owed. If there is a `successor`, packets still come here, and to it alone.
    Draining {
        /// Until then.
        until: Moment,
        /// Is there one?
        successor: bool,
    },
}

impl Watch {
    /// Begins a stop, or, asked again, ends it at once.
    pub(super) fn begin_stop(&mut self) {
        let now = Moment::now();
        match self.stop {
            Stop::Not => {
                let others = self.others();
                let serves = others.iter().any(|other| other.stage == Stage::Serving);
                let starts = others.iter().any(|other| other.stage == Stage::Starting);
                if starts && !serves && !self.for_good && self.duty.captured() {
                    tracing::info!("stopping as soon as the instance that is starting serves");
                    self.stop = Stop::Waiting(now + SUCCESSOR);
                } else {
                    self.part(now);
                }
            }
            Stop::Waiting(_) => self.part(now),
            Stop::Parting(_) | Stop::Draining { .. } => {
                tracing::warn!("stopping at once, as asked");
                self.stop = Stop::Draining { until: now, successor: false };
            }
        }
    }

    /// Begins to leave: to another instance, or to kube-dns.
    fn part(&mut self, now: Moment) {
        // Said first: of two that are told to stop at the same time neither must count on the other.
        self.announce(Stage::Leaving);
        let successor = self.another_serves();
        tracing::info!(successor, "stopping: answering what has arrived");
        match &self.server {
            Some(server) if !successor && self.duty.captured() => {
                server.send(&Order::Farewell);
                let lame_duck = if self.for_good { Duration::ZERO } else { self.job.lame_duck };
                self.stop = Stop::Parting(now + lame_duck.max(FAREWELL));
            }
            _ => self.drain(now, successor),
        }
    }

    fn drain(&mut self, now: Moment, successor: bool) {
        if !successor {
            // Nobody else answers here: from now on kube-dns does.
            self.host.release(false);
        }
        self.stop = Stop::Draining { until: now + DRAIN, successor };
        self.round = None;
        if let Some(server) = &self.server {
            server.send(&Order::Stop);
        }
    }

    /// Is the stop complete?
    pub(super) fn go_on_stopping(&mut self, now: Moment) -> bool {
        match self.stop {
            Stop::Not => false,
            Stop::Waiting(until) => {
                let others = self.others();
                let is = |stage| others.iter().any(|other| other.stage == stage);
                if now >= until || is(Stage::Serving) || !is(Stage::Starting) {
                    self.part(now);
                }
                false
            }
            Stop::Parting(until) => {
                if now >= until || self.server.is_none() {
                    self.drain(now, false);
                }
                false
            }
            Stop::Draining { until, successor } => {
                if successor && !self.another_serves() {
                    tracing::warn!("the successor does not serve any more: packets go to kube-dns");
                    self.host.release(false);
                    self.stop = Stop::Draining { until, successor: false };
                }
                if now >= until
                    && let Some(server) = self.server.take()
                {
                    tracing::warn!("the server has not answered all in time: killed");
                    server.end();
                }
                self.server.is_none()
            }
        }
    }

    /// Stops, as there is no use in going on.
    pub(super) fn fail(&mut self, error: Error) {
        tracing::error!(%error, "cannot go on");
        self.failure = Some(error);
        self.begin_stop();
    }

    /// Is there no way back?
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.stop, Stop::Parting(_) | Stop::Draining { .. })
    }
}
