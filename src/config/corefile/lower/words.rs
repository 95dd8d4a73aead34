//! Words of a directive as numbers, durations, names and addresses, in the forms that CoreDNS takes; and what is said of
//! those that are none.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::config::address::Name;
use crate::config::corefile::lower::node::text;
use crate::config::corefile::{Directive, Word, key};
use crate::config::limits::Limit;
use crate::config::problem::{Problem, Problems, hint, quoted};
use crate::config::text::{Form, Span};
use crate::config::tree::Node;

/// What is found on the way.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is wrong.
    pub(super) problems: Problems,
    /// What means something else here than in CoreDNS.
    pub(super) warnings: Vec<Problem>,
    /// Warnings that were given once and are not repeated.
    said: HashSet<&'static str>,
}

/// The directive that is being read: whatever is said, is said under its name.
pub(super) struct Reading<'a> {
    /// Its name.
    pub(super) name: &'a str,
    findings: &'a mut Findings,
}

impl<'a> Reading<'a> {
    /// Reads the directive called `name`.
    pub(super) fn new(name: &'a str, findings: &'a mut Findings) -> Reading<'a> {
        Reading { name, findings }
    }

    fn problem(&self, at: &Word, message: String) -> Problem {
        Problem { source: at.file.to_string(), at: Some(at.place), key: self.name.to_owned(), message }
    }

    /// Says that something is wrong, and gives nothing.
    pub(super) fn refuse<T>(&mut self, at: &Word, message: impl Into<String>) -> Option<T> {
        let problem = self.problem(at, message.into());
        self.findings.problems.push(problem);
        None
    }

    /// Says that something is odd.
    pub(super) fn warn(&mut self, at: &Word, message: impl Into<String>) {
        let problem = self.problem(at, message.into());
        self.findings.warnings.push(problem);
    }

    /// [`Reading::warn`], the first time that it is about `what`.
    pub(super) fn warn_once(&mut self, what: &'static str, at: &Word, message: impl Into<String>) {
        if self.findings.said.insert(what) {
            self.warn(at, message);
        }
    }

    /// Refuses a second line of a directive that may have one; gives the first.
    pub(super) fn once<'d>(&mut self, directives: &[&'d Directive]) -> Option<&'d Directive> {
        if let Some(second) = directives.get(1) {
            self.refuse::<()>(&second.name, "this plugin can only be used once per Server Block");
        }
        directives.first().copied()
    }

    /// Refuses braces with something in them.
    pub(super) fn no_body(&mut self, directive: &Directive) {
        if let Some(first) = directive.body.iter().flatten().find_map(|line| line.0.first()) {
            self.refuse::<()>(
                first,
                format!("{} takes no block; {} has no meaning here", self.name, quoted(&first.text)),
            );
        }
    }

    /// Refuses arguments behind `at` that are more than `most`.
    pub(super) fn at_most(&mut self, arguments: &[Word], most: usize, usage: &str) {
        if let Some(extra) = arguments.get(most) {
            self.refuse::<()>(extra, format!("{} is too much; write {usage}", quoted(&extra.text)));
        }
    }

    /// The one argument of `at`.
    pub(super) fn one<'w>(&mut self, at: &Word, arguments: &'w [Word], usage: &str) -> Option<&'w Word> {
        self.at_most(arguments, 1, usage);
        self.first(at, arguments, usage)
    }

    /// The first argument of `at`, of perhaps several.
    pub(super) fn first<'w>(&mut self, at: &Word, arguments: &'w [Word], usage: &str) -> Option<&'w Word> {
        match arguments.first() {
            None => self.refuse(at, format!("an argument is missing; write {usage}")),
            first => first,
        }
    }

    /// That `property` is none of those that this directive has.
    pub(super) fn unknown(&mut self, property: &Word, choices: &[&str]) {
        let hint = hint(&property.text, choices);
        let hint = if hint.is_empty() { format!("; choose from: {}", choices.join(", ")) } else { hint };
        self.refuse::<()>(property, format!("unknown property {}{hint}", quoted(&property.text)));
    }

    /// A whole number, as Go's `strconv.Atoi` reads it.
    pub(super) fn number(&mut self, word: &Word) -> Option<i64> {
        match integer(&word.text) {
            Some(number) => Some(number),
            None => self.refuse(word, format!("{} is not a whole number", quoted(&word.text))),
        }
    }

    /// A whole number between bounds.
    pub(super) fn number_within(&mut self, word: &Word, min: i64, max: i64) -> Option<i64> {
        let number = self.number(word)?;
        if (min..=max).contains(&number) {
            return Some(number);
        }
        let range = if max == i64::MAX { format!("at least {min}") } else { format!("between {min} and {max}") };
        self.refuse(word, format!("{number} is out of range: must be {range}"))
    }

    /// A length of time in Go's syntax, not negative.
    pub(super) fn duration(&mut self, word: &Word) -> Option<Duration> {
        match go_duration(&word.text) {
            Some(nanos) => match u64::try_from(nanos) {
                Ok(nanos) => Some(Duration::from_nanos(nanos)),
                Err(_) => self.refuse(word, format!("{} is negative or too long", quoted(&word.text))),
            },
            None if integer(&word.text).is_some() => {
                self.refuse(word, format!("{} has no unit; write {}s for seconds", quoted(&word.text), word.text))
            }
            None => self.refuse(word, format!("{} is not a duration, such as 30s, 300ms or 1h20m", quoted(&word.text))),
        }
    }

    /// `value`, brought within what nodens takes; said if that is another.
    pub(super) fn bounded(&mut self, at: &Word, value: Duration, limit: Limit<Duration>) -> Duration {
        let bounded = value.clamp(limit.min, limit.max);
        if bounded != value {
            let (value, bounded) = (Span(whole(value)), Span(bounded));
            self.warn(at, format!("{value} is outside of what nodens takes; {bounded} is used"));
        }
        bounded
    }

    /// Zones: names, or networks that stand for reverse zones.
    pub(super) fn zones(&mut self, words: &[Word]) -> Vec<Node> {
        words.iter().flat_map(|word| self.zone(word).unwrap_or_default()).collect()
    }

    /// The zones that one word stands for.
    pub(super) fn zone(&mut self, word: &Word) -> Option<Vec<Node>> {
        match zone_names(&word.text) {
            Ok(names) => Some(names.into_iter().map(|name| text(word.from, name)).collect()),
            Err(why) => self.refuse(word, why),
        }
    }

    /// `[HOST]:PORT` of a listener; `wide` is where it is when no host is written.
    pub(super) fn listener(&mut self, word: &Word, wide: IpAddr) -> Option<SocketAddr> {
        let (host, port) = match word.text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => (host, port),
            _ => return self.refuse(word, format!("{} is not [ADDRESS]:PORT, such as :9253", quoted(&word.text))),
        };
        let ip = match host.trim_start_matches('[').trim_end_matches(']') {
            "" => Some(wide),
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            ip => ip.parse().ok(),
        };
        match (ip, port.parse::<u16>()) {
            (Some(ip), Ok(port)) if port != 0 => Some(SocketAddr::new(ip, port)),
            (None, _) => self.refuse(word, format!("{} is not an IP address; write one, or nothing", quoted(host))),
            _ => self.refuse(word, format!("{} is not a port; it must be between 1 and 65535", quoted(port))),
        }
    }
}

/// The names of zones that `written` stands for, written as in YAML.
pub(super) fn zone_names(written: &str) -> Result<Vec<String>, String> {
    let names = key(written)?.zones;
    for name in &names {
        Name::read(name)?;
    }
    Ok(names)
}

/// The address that stands for all, in the family of the others.
pub(super) fn any(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Digits with perhaps a sign.
pub(super) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// `duration` in whole milliseconds; what is there stays there.
pub(super) fn whole(duration: Duration) -> Duration {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Nanoseconds, as Go's `time.ParseDuration` reads them.
fn go_duration(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    match rest {
        "" => return None,
        "0" => return Some(0),
        _ => {}
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, behind) = rest.split_at(number);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit);
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 18 || fraction.contains('.') {
            return None;
        }
        let part = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
        let fraction = fraction.get(..18).unwrap_or(fraction);
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        total = total.checked_add(part(whole)? * nanos + part(fraction)? * nanos / scale)?;
        rest = next;
    }
    // What an i64 of nanoseconds cannot hold is an error in Go, too.
    (total <= i128::from(i64::MAX)).then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("300ms", Some(300_000_000)),
            ("1h20m", Some(4_800_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("5.s", Some(5_000_000_000)),
            ("10us", Some(10_000)),
            ("10µs", Some(10_000)),
            ("7ns", Some(7)),
            ("-1s", Some(-1_000_000_000)),
            ("+1s", Some(1_000_000_000)),
            ("72000s", Some(72_000_000_000_000)),
            ("", None),
            ("-", None),
            ("30", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("1 s", None),
            ("1s2", None),
            ("1..5s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(go_duration(text), nanos, "{text}");
        }
    }

    #[test]
    fn numbers_are_those_of_atoi() {
        for (text, number) in [
            ("9984", Some(9984)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("007", Some(7)),
            ("", None),
            ("-", None),
            ("1.5", None),
            ("0x10", None),
            ("1_000", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(integer(text), number, "{text}");
        }
    }
}
