//! Lines of the log for look-ups that failed, as CoreDNS's plugin errors writes them.
//!
//! Owns how equal failures become one line, and the bound on all others: a dead upstream must not fill a disk. Time is
//! an argument, and who calls sees to it that what is due is told ([`Errors::tell`]).

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regex_lite::Regex;
use tracing::Level;

use crate::sys::clock::Moment;
use crate::wire::mnemonic;
use crate::wire::question::{DisplayName, Question};

/// Most lines that are written of single failures in a [`WINDOW`].
const LINES: u64 = 100;
/// See [`LINES`].
const WINDOW: Duration = Duration::from_secs(1);

/// Failures that are counted and told together.
#[derive(Clone, Debug)]
pub struct Consolidate {
    /// How often they are told.
    pub every: Duration,
    /// What their text must match.
    pub matching: Regex,
    /// How important the line is.
    pub level: Level,
    /// Whether the first of each time is told at once.
    pub show_first: bool,
}

/// A look-up that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The response code that the client gets.
    pub rcode: u16,
    /// What was asked.
    pub question: &'a Question,
    /// Why it failed, in the words that CoreDNS has for it.
    pub why: &'a str,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, qtype) = (DisplayName(self.question.name()), self.question.qtype());
        write!(f, "plugin/errors: {} {name} ", self.rcode)?;
        match mnemonic::name_in(&mnemonic::TYPES, qtype) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "TYPE{qtype}")?,
        }
        write!(f, ": {}", self.why)
    }
}

/// A line and its level.
type Line = (Level, String);

/// What has happened since the last line.
#[derive(Debug, Default)]
struct State {
    /// By rule: how many failures, and when they are told; nothing while there are none.
    counted: Vec<Option<(u64, Moment)>>,
    /// When the window ends in which single lines are counted.
    window: Moment,
    /// Lines written in it, and those that were not.
    lines: u64,
    suppressed: u64,
}

/// The failures of one zone.
#[derive(Debug)]
pub struct Errors {
    /// By what transport the zone's upstreams are asked first, which the words of a failure tell.
    pub transport: &'static str,
    rules: Box<[Consolidate]>,
    state: Mutex<State>,
}

impl Errors {
    /// Tells failures together by the first of `rules` that matches, all others one by one.
    pub fn new(rules: Vec<Consolidate>, transport: &'static str) -> Errors {
        let counted = rules.iter().map(|_| None).collect();
        Errors { transport, rules: rules.into(), state: Mutex::new(State { counted, ..State::default() }) }
    }

    /// Logs or counts a failure. When it is the first of several to be told together: after what time [`Errors::tell`] is
    /// to be called.
    #[must_use]
    pub fn failed(&self, failure: &Failure<'_>, now: Moment) -> Option<Duration> {
        let (lines, due) = self.judge(failure, now);
        lines.iter().for_each(write);
        due
    }

    /// Logs what is due.
    pub fn tell(&self, now: Moment) {
        self.due(now).iter().for_each(write);
    }

    fn judge(&self, failure: &Failure<'_>, now: Moment) -> (Vec<Line>, Option<Duration>) {
        let rule = self.rules.iter().enumerate().find(|(_, rule)| rule.matching.is_match(failure.why));
        let Some((at, rule)) = rule else { return (self.single(failure, now), None) };
        let mut state = self.state();
        let Some(counted) = state.counted.get_mut(at) else { return (Vec::new(), None) };
        match counted {
            Some((n, _)) => {
                *n += 1;
                (Vec::new(), None)
            }
            None => {
                *counted = Some((1, now + rule.every));
                let first = rule.show_first.then(|| (rule.level, failure.to_string()));
                (first.into_iter().collect(), Some(rule.every))
            }
        }
    }

    /// The line of a failure that no rule is for, and that some before had none.
    fn single(&self, failure: &Failure<'_>, now: Moment) -> Vec<Line> {
        let mut state = self.state();
        let mut lines = Vec::new();
        if now >= state.window {
            (state.window, state.lines) = (now + WINDOW, 0);
            let suppressed = std::mem::take(&mut state.suppressed);
            if suppressed > 0 {
                lines.push((Level::ERROR, format!("plugin/errors: {suppressed} more errors were not logged")));
            }
        }
        if state.lines < LINES {
            state.lines += 1;
            lines.push((Level::ERROR, failure.to_string()));
        } else {
            state.suppressed += 1;
        }
        lines
    }

    fn due(&self, now: Moment) -> Vec<Line> {
        let mut state = self.state();
        let told = |(rule, counted): (&Consolidate, &mut Option<(u64, Moment)>)| {
            let (n, _) = counted.take_if(|(_, due)| *due <= now)?;
            // The one that was shown needs no more words.
            let (pattern, every) = (rule.matching.as_str(), GoDuration(rule.every));
            let text = format!("plugin/errors: {n} errors like '{pattern}' occurred in last {every}");
            (n > 1 || !rule.show_first).then_some((rule.level, text))
        };
        self.rules.iter().zip(&mut state.counted).filter_map(told).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write((level, line): &Line) {
    match *level {
        Level::ERROR => tracing::error!("{line}"),
        Level::WARN => tracing::warn!("{line}"),
        Level::INFO => tracing::info!("{line}"),
        _ => tracing::debug!("{line}"),
    }
}

/// A length of time as Go writes it: `10s`, `1m0s`, `1h0m0s`, `300ms`.
struct GoDuration(Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.as_secs();
        if whole == 0 && !self.0.is_zero() {
            return write!(f, "{}ms", self.0.as_secs_f64() * 1000.0);
        }
        let (hours, minutes) = (whole / 3600, whole / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if whole >= 60 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", whole as f64 % 60.0 + f64::from(self.0.subsec_millis()) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::question::{CLASS_IN, to_wire};

    const TIMEOUT: &str = "read udp 8.8.8.8:53: i/o timeout";

    fn rule(matching: &str, level: Level, show_first: bool) -> Consolidate {
        Consolidate { every: Duration::from_secs(10), matching: Regex::new(matching).unwrap(), level, show_first }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    fn fail(errors: &Errors, why: &str, now: Moment) -> (Vec<Line>, Option<Duration>) {
        let question = Question::new(&to_wire("example.org"), 1, CLASS_IN).unwrap();
        errors.judge(&Failure { rcode: 2, question: &question, why }, now)
    }

    #[test]
    fn a_failure_is_told_in_coredns_words() {
        let line = format!("plugin/errors: 2 example.org. A: {TIMEOUT}");
        assert_eq!(fail(&Errors::new(Vec::new(), "udp"), TIMEOUT, at(1)), (vec![(Level::ERROR, line)], None));
        let odd = Question::new(&to_wire("x"), 65280, CLASS_IN).unwrap();
        let text = Failure { rcode: 5, question: &odd, why: "no" }.to_string();
        assert_eq!(text, "plugin/errors: 5 x. TYPE65280: no");
    }

    #[test]
    fn failures_that_match_become_one_line_each_time() {
        let pattern = ".* i/o timeout$";
        let rules = vec![rule("^nothing$", Level::ERROR, false), rule(pattern, Level::WARN, false)];
        let errors = Errors::new(rules, "udp");
        assert_eq!(fail(&errors, TIMEOUT, at(1)), (Vec::new(), Some(Duration::from_secs(10))));
        assert_eq!(fail(&errors, TIMEOUT, at(2)), (Vec::new(), None));
        assert_eq!(errors.due(at(10)), []);
        let line = |n| (Level::WARN, format!("plugin/errors: {n} errors like '{pattern}' occurred in last 10s"));
        assert_eq!(errors.due(at(11)), [line(2)]);
        assert_eq!(errors.due(at(99)), [], "told once");
        assert_eq!(fail(&errors, TIMEOUT, at(100)).1, Some(Duration::from_secs(10)), "it begins anew");
        assert_eq!(errors.due(at(110)), [line(1)]);
        assert_eq!(fail(&errors, "refused", at(111)).0.len(), 1, "what matches none is told at once");
    }

    #[test]
    fn the_first_is_told_at_once_if_wanted_and_not_twice() {
        let errors = Errors::new(vec![rule("timeout", Level::INFO, true)], "udp");
        let (first, due) = fail(&errors, TIMEOUT, at(1));
        assert_eq!(first, [(Level::INFO, format!("plugin/errors: 2 example.org. A: {TIMEOUT}"))]);
        assert!(due.is_some());
        assert_eq!(errors.due(at(11)), [], "there was no other");
        assert_eq!(fail(&errors, TIMEOUT, at(20)).0.len(), 1);
        assert_eq!(fail(&errors, TIMEOUT, at(21)), (Vec::new(), None));
        assert_eq!(errors.due(at(30)).len(), 1);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let errors = Errors::new(Vec::new(), "udp");
        let told = (0..250).filter(|_| !fail(&errors, TIMEOUT, at(1)).0.is_empty()).count();
        assert_eq!(told, 100);
        let (lines, _) = fail(&errors, TIMEOUT, at(2));
        let more = (Level::ERROR, "plugin/errors: 150 more errors were not logged".to_owned());
        assert_eq!((lines.len(), &lines[0]), (2, &more));
        assert_eq!(fail(&errors, TIMEOUT, at(2)).0.len(), 1);
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (millis, text) in [
            (10_000, "10s"),
            (60_000, "1m0s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
            (86_400_000, "24h0m0s"),
            (300, "300ms"),
            (1_500, "1.5s"),
        ] {
            assert_eq!(GoDuration(Duration::from_millis(millis)).to_string(), text);
        }
    }
}
