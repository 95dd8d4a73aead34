//! The plugin cache: `zones[].cache`, and `cache` for what CoreDNS does where nothing is written.
//!
//! CoreDNS counts answers, nodens counts bytes: all capacities that are written make one bound for everything. A lifetime
//! above MAXTTL is cut after one below MINTTL was raised, so that the lower of two wrong bounds holds.

use std::time::Duration;

use crate::config::corefile::lower::node::{Map, text};
use crate::config::corefile::lower::words::{Reading, whole, zone_names};
use crate::config::corefile::{Directive, Word};
use crate::config::limits::{self, Limit};
use crate::config::problem::quoted;
use crate::config::text::{Size, Span};
use crate::config::tree::{Node, Place};

/// Shortest lifetime, of answers with data and without.
const MIN_TTL: Duration = Duration::from_secs(5);
/// Longest lifetime of answers with data.
const POSITIVE: Duration = Duration::from_secs(3600);
/// Longest lifetime of answers without.
const NEGATIVE: Duration = Duration::from_secs(1800);
/// How long a stale answer is kept from being asked for again after a failure; CoreDNS asks again for every client.
const RECHECK: Duration = Duration::from_secs(1);
/// What one answer takes, in octets, with all that goes with it.
const ANSWER: u64 = 512;
/// In which part of its life an answer is renewed, in percent.
const PERCENTAGE: i64 = 10;

/// The capacities of all blocks.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    answers: u64,
    largest: Option<(u64, Place)>,
}

impl Capacity {
    fn add(&mut self, answers: i64, place: Place) {
        let answers = u64::try_from(answers).unwrap_or(0);
        self.answers = self.answers.saturating_add(answers);
        if self.largest.is_none_or(|(largest, _)| largest < answers) {
            self.largest = Some((answers, place));
        }
    }

    /// The keys below `cache`: the bound, and CoreDNS's defaults.
    pub(super) fn keys(&self, place: Place) -> Map {
        let mut cache = Map::new(place);
        let mib = 1 << 20;
        let bytes = self.answers.saturating_mul(ANSWER).div_ceil(mib).saturating_mul(mib);
        if let Some((_, place)) = self.largest.filter(|_| bytes > limits::MAX_BYTES.default) {
            cache.text("maxBytes", place, Size(bytes.min(limits::MAX_BYTES.max)));
        }
        for (key, max) in [("positive", POSITIVE), ("negative", NEGATIVE)] {
            let mut range = Map::new(place);
            range.text("minTtl", place, Span(MIN_TTL));
            range.text("maxTtl", place, Span(max));
            cache.map(key, range);
        }
        for key in ["serveStale", "prefetch"] {
            let mut off = Map::new(place);
            off.text("enabled", place, "false");
            cache.map(key, off);
        }
        cache
    }
}

/// What is written of answers with data, or of those without.
#[derive(Default)]
struct Class {
    max: Option<(Duration, Place)>,
    min: Option<(Duration, Place)>,
    never: Vec<Node>,
}

impl Class {
    /// The keys of the range, where that differs from `default`.
    fn keys(self, default: Duration, place: Place) -> Map {
        let first = self.max.or(self.min).map(|(_, place)| place).or(self.never.first().map(|name| name.place));
        let mut range = Map::new(first.unwrap_or(place));
        let max = self.max.map_or(default, |(max, _)| max);
        let (min, at) = self.min.or(self.max.map(|(_, at)| (MIN_TTL, at))).unwrap_or((MIN_TTL, place));
        let min = min.min(max);
        if self.min.is_some() || min != MIN_TTL {
            range.text("minTtl", at, Span(min));
        }
        if let Some((max, at)) = self.max {
            range.text("maxTtl", at, Span(max));
        }
        range.list("never", self.never);
        range
    }
}

/// What is written of stale answers.
struct Stale {
    place: Place,
    /// None for a time of zero: there are none then.
    max_age: Option<Duration>,
    answer_ttl: Duration,
    client_wait: Duration,
    recheck: Duration,
}

/// Reads the plugin.
pub(super) fn cache(reading: &mut Reading<'_>, lines: &[&Directive], keys: &mut Map, capacity: &mut Capacity) {
    let Some(line) = reading.once(lines) else { return };
    let place = line.name.from;
    let (mut success, mut denial) = (Class::default(), Class::default());
    let mut zones = line.arguments.as_slice();
    if let Some((first, rest)) = zones.split_first()
        && let Ok(ttl) = first.text.parse::<i64>()
    {
        zones = rest;
        if ttl <= 0 {
            reading.refuse::<()>(first, format!("cache TTL can not be zero or negative: {ttl}"));
        }
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        success.max = Some((reading.bounded(first, ttl, limits::POSITIVE_MAX_TTL), first.from));
        denial.max = Some((reading.bounded(first, ttl, limits::NEGATIVE_MAX_TTL), first.from));
    }
    only(reading, zones, keys);
    let (mut stale, mut prefetch, mut failure) = (None, None, None);
    let (mut prefer, mut keep) = (None, None);
    for property in line.body.iter().flatten() {
        let Some((name, rest)) = property.0.split_first() else { continue };
        match name.text.as_str() {
            "success" => class(reading, name, rest, (&mut success, limits::POSITIVE_MAX_TTL), capacity),
            "denial" => class(reading, name, rest, (&mut denial, limits::NEGATIVE_MAX_TTL), capacity),
            "prefetch" => prefetch = early(reading, name, rest),
            "serve_stale" => stale = serve_stale(reading, name, rest),
            "serve_stale_policy" => prefer = policy(reading, name, rest),
            "servfail" => failure = servfail(reading, name, rest),
            "disable" => disable(reading, name, rest, &mut success, &mut denial),
            "keepttl" => {
                reading.at_most(rest, 0, "keepttl");
                keep = Some(name.from);
            }
            _ => reading.unknown(
                name,
                &[
                    "success",
                    "denial",
                    "prefetch",
                    "serve_stale",
                    "servfail",
                    "disable",
                    "keepttl",
                    "serve_stale_policy",
                ],
            ),
        }
    }
    keys.map("positive", success.keys(POSITIVE, place));
    keys.map("negative", denial.keys(NEGATIVE, place));
    if let Some((ttl, at)) = failure {
        keys.text("failureTtl", at, Span(ttl));
    }
    if let (Some(word), None) = (prefer, &stale) {
        reading.refuse::<()>(word, "serve_stale_policy has a meaning with serve_stale alone");
    }
    if let Some(stale) = stale {
        keys.map("serveStale", stale_keys(&stale, prefer));
    }
    if let Some(prefetch) = prefetch {
        keys.map("prefetch", prefetch);
    }
    if let Some(at) = keep {
        keys.text("keepTtl", at, "true");
    }
}

/// The zones behind the plugin's name: only their names are cached.
fn only(reading: &mut Reading<'_>, zones: &[Word], keys: &mut Map) {
    let mut names = Vec::new();
    for word in zones {
        // Others CoreDNS takes for names that nobody asks for.
        if let Ok(found) = zone_names(&word.text) {
            names.extend(found.into_iter().map(|name| text(word.from, name)));
        }
        let shown = quoted(&word.text);
        match word.text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
            "{}" => reading.warn(word, format!("{shown} is the name of a zone to CoreDNS; for no block write nothing")),
            digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                let message = format!(
                    "{shown} is the name of a zone to CoreDNS, and only names below it are cached; for a TTL write {digits}"
                );
                reading.warn(word, message);
            }
            _ => {}
        }
    }
    match zones.first() {
        Some(first) if names.is_empty() => keys.text("enabled", first.from, "false"),
        _ => keys.list("only", names),
    }
}

/// `success|denial CAPACITY [TTL [MINTTL]]`.
fn class(
    reading: &mut Reading<'_>,
    name: &Word,
    arguments: &[Word],
    (class, limit): (&mut Class, Limit<Duration>),
    capacity: &mut Capacity,
) {
    let usage = format!("{} CAPACITY [TTL [MINTTL]]", name.text);
    reading.at_most(arguments, 3, &usage);
    let Some(first) = reading.first(name, arguments, &usage) else { return };
    if let Some(answers) = reading.number(first) {
        capacity.add(answers, first.from);
    }
    let mut seconds = |word: &Word, least: i64, limit: Limit<Duration>| {
        let ttl = reading.number(word)?;
        if ttl < least {
            let what = if least == 0 { "min TTL can not be negative" } else { "TTL can not be zero or negative" };
            return reading.refuse(word, format!("cache {what}: {ttl}"));
        }
        let ttl = reading.bounded(word, Duration::from_secs(u64::try_from(ttl).unwrap_or(0)), limit);
        Some((ttl, word.from))
    };
    if let Some(word) = arguments.get(1) {
        class.max = seconds(word, 1, limit);
    }
    if let Some(word) = arguments.get(2) {
        class.min = seconds(word, 0, limits::MIN_TTL);
    }
}

/// `prefetch AMOUNT [DURATION [PERCENTAGE%]]`.
fn early(reading: &mut Reading<'_>, name: &Word, arguments: &[Word]) -> Option<Map> {
    const USAGE: &str = "prefetch AMOUNT [DURATION [PERCENTAGE%]], such as prefetch 10 1m 25%";
    reading.at_most(arguments, 3, USAGE);
    let amount = reading.first(name, arguments, USAGE)?;
    let amount = reading.number_within(amount, 0, i64::MAX)?;
    let window = arguments.get(1).map(|word| reading.duration(word).map(|_| word));
    let mut percentage = PERCENTAGE;
    if let Some(word) = arguments.get(2) {
        let number = word.text.strip_suffix('%').and_then(|number| number.parse().ok());
        percentage = match number {
            Some(number) if (10..=90).contains(&number) => number,
            Some(number) => return reading.refuse(word, format!("percentage should fall in range 10-90: {number}")),
            None => return reading.refuse(word, format!("{} is not a percentage, such as 25%", quoted(&word.text))),
        };
    }
    if let Some(Some(word)) = window {
        let message = format!("has no meaning here: nodens counts hits in the last {percentage}% of a lifetime");
        reading.warn_once("prefetch", word, format!("the window of {} {message}", word.text));
    }
    if amount == 0 {
        return None;
    }
    let hits = amount.saturating_mul(percentage).saturating_add(99) / 100;
    let most = i64::try_from(limits::MIN_HITS.max).unwrap_or(i64::MAX);
    let mut prefetch = Map::new(name.from);
    prefetch.text("enabled", name.from, "true");
    prefetch.text("minHits", name.from, hits.clamp(1, most));
    prefetch.text("remaining", name.from, format!("{percentage}%"));
    Some(prefetch)
}

/// `serve_stale [DURATION [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]]`.
fn serve_stale(reading: &mut Reading<'_>, name: &Word, arguments: &[Word]) -> Option<Stale> {
    const USAGE: &str = "serve_stale [DURATION [immediate | verify [TIMEOUT]]]";
    let mut stale = Stale {
        place: name.from,
        max_age: Some(limits::STALE_MAX_AGE.default),
        answer_ttl: Duration::ZERO,
        client_wait: Duration::ZERO,
        recheck: RECHECK,
    };
    let mut rest = arguments;
    if let Some(word) = rest.split_off_first() {
        let age = reading.duration(word)?;
        stale.max_age = (age > Duration::ZERO).then(|| reading.bounded(word, whole(age), limits::STALE_MAX_AGE));
    }
    if let Some(mode) = rest.split_off_first() {
        match mode.text.to_ascii_lowercase().as_str() {
            "immediate" => {}
            "verify" => {
                stale.client_wait = limits::CLIENT_WAIT.max;
                if let Some(word) = rest.split_off_first() {
                    let wait = whole(reading.duration(word)?);
                    // Zero is CoreDNS's word for any time.
                    let zero = wait == Duration::ZERO;
                    stale.client_wait =
                        if zero { limits::CLIENT_WAIT.max } else { reading.bounded(word, wait, limits::CLIENT_WAIT) };
                }
            }
            _ => {
                let message =
                    format!("invalid value for serve_stale refresh mode: {}; write immediate or verify", mode.text);
                return reading.refuse(mode, message);
            }
        }
    }
    if let Some(word) = rest.split_off_first() {
        let ttl = whole(reading.duration(word)?);
        stale.answer_ttl = reading.bounded(word, ttl, limits::STALE_ANSWER_TTL);
    }
    if let Some(word) = rest.split_off_first() {
        let recheck = whole(reading.duration(word)?);
        stale.recheck = reading.bounded(word, recheck, limits::RECHECK);
    }
    reading.at_most(rest, 0, USAGE);
    Some(stale)
}

fn stale_keys(stale: &Stale, prefer: Option<&Word>) -> Map {
    let mut keys = Map::new(stale.place);
    let mut put = |key: &str, value: String| keys.text(key, stale.place, value);
    match stale.max_age {
        None => put("enabled", "false".into()),
        Some(age) => {
            put("enabled", "true".into());
            put("maxAge", Span(age).to_string());
            put("answerTtl", Span(stale.answer_ttl).to_string());
            put("clientWait", Span(stale.client_wait).to_string());
            put("recheck", Span(stale.recheck).to_string());
            if let Some(word) = prefer {
                keys.text("preferPositive", word.from, "true");
            }
        }
    }
    keys
}

/// `serve_stale_policy prefer_positive`.
fn policy<'w>(reading: &mut Reading<'_>, name: &'w Word, arguments: &[Word]) -> Option<&'w Word> {
    let word = reading.one(name, arguments, "serve_stale_policy prefer_positive")?;
    if word.text == "prefer_positive" {
        Some(name)
    } else {
        reading.refuse(word, format!("unknown policy {}; there is only prefer_positive", quoted(&word.text)))
    }
}

/// `servfail DURATION`.
fn servfail(reading: &mut Reading<'_>, name: &Word, arguments: &[Word]) -> Option<(Duration, Place)> {
    let word = reading.one(name, arguments, "servfail DURATION")?;
    let ttl = whole(reading.duration(word)?);
    if ttl > limits::FAILURE_TTL.max {
        return reading.refuse(word, "caching SERVFAIL responses over 5 minutes is not permitted");
    }
    Some((ttl, word.from))
}

/// `disable success|denial [ZONES…]`.
fn disable(reading: &mut Reading<'_>, name: &Word, arguments: &[Word], success: &mut Class, denial: &mut Class) {
    let Some(first) = reading.first(name, arguments, "disable success|denial [ZONES...]") else { return };
    let class = match first.text.as_str() {
        "success" => success,
        "denial" => denial,
        _ => {
            return reading
                .refuse(first, "cache type for disable must be \"success\" or \"denial\"")
                .unwrap_or_default();
        }
    };
    class.never = reading.zones(arguments.get(1..).unwrap_or_default());
    if arguments.len() == 1 {
        class.never = vec![text(first.from, ".")];
    }
}
