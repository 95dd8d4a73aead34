//! What a scenario file may hold. Unknown keys are refused, so that a misspelt expectation cannot pass unseen.

use super::text::{Ask, Rcode, Records, Span};
use nodens::config;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, for people.
    pub about: String,
    /// How the cache is set up.
    #[serde(default)]
    pub settings: Settings,
    /// What the upstream says to each question (`www.example. A`, with `+dnssec`, `+cd`, `+norec`, in this order, where
    /// the answer depends on them; `*.` for any label): one answer per time it is asked, and the last one from then on.
    #[serde(default)]
    pub upstream: BTreeMap<String, Vec<Answer>>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// How the cache is set up, by the names of the configuration file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Settings {
    /// The cache's budget, in octets.
    pub max_bytes: u64,
    /// What the clock shows at first.
    pub uptime: Span,
    /// Zones; all names, when none is given.
    pub zones: Vec<Zone>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_bytes: config::limits::MAX_BYTES.default,
            uptime: Span(std::time::Duration::from_secs(1000)),
            zones: vec![Zone { names: vec![".".into()], ..Zone::default() }],
        }
    }
}

/// A zone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Zone {
    /// Its names.
    #[serde(rename = "match")]
    pub names: Vec<String>,
    /// Bounds for positive answers.
    pub positive: Bounds,
    /// Bounds for negative answers.
    pub negative: Bounds,
    /// How long failures are remembered at most.
    pub failure_ttl: Span,
    /// Stale answers; as the product gives them, when nothing is written.
    pub serve_stale: Stale,
    /// Prefetches; the same.
    pub prefetch: Prefetch,
    /// Keys of rules (`rewrite`, `acl`, ...), as they stand in the configuration file.
    pub rules: yaml_serde::Mapping,
}

/// How stale answers are given; what is not written is the product's default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Stale {
    pub enabled: bool,
    pub max_age: Span,
    pub answer_ttl: Span,
    pub client_wait: Span,
    pub recheck: Span,
    pub prefer_positive: bool,
}

impl Default for Stale {
    fn default() -> Stale {
        Stale {
            enabled: true,
            max_age: Span(config::limits::STALE_MAX_AGE.default),
            answer_ttl: Span(config::limits::STALE_ANSWER_TTL.default),
            client_wait: Span(config::limits::CLIENT_WAIT.default),
            recheck: Span(config::limits::RECHECK.default),
            prefer_positive: false,
        }
    }
}

/// What is renewed before it expires; what is not written is the product's default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Prefetch {
    pub enabled: bool,
    pub min_hits: u8,
    /// In percent.
    pub remaining: u8,
}

impl Default for Prefetch {
    fn default() -> Prefetch {
        Prefetch {
            enabled: true,
            min_hits: config::limits::MIN_HITS.default as u8,
            remaining: config::limits::REMAINING.default as u8,
        }
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone {
            names: Vec::new(),
            positive: Bounds::default(),
            negative: Bounds::default(),
            failure_ttl: Span(config::limits::FAILURE_TTL.default),
            serve_stale: Stale::default(),
            prefetch: Prefetch::default(),
            rules: yaml_serde::Mapping::new(),
        }
    }
}

/// Bounds of TTLs; what is not written is the product's default.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Bounds {
    /// The smallest.
    pub min_ttl: Option<Span>,
    /// The largest.
    pub max_ttl: Option<Span>,
}

/// What the upstream does when it is asked.
#[derive(Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// RCODE.
    pub rcode: Option<Rcode>,
    /// The answer section.
    pub answer: Records,
    /// The authority section.
    pub authority: Records,
    /// The additional section, OPT apart.
    pub additional: Records,
    /// Of aa, tc, ad, those that are set.
    pub flags: Vec<Flag>,
    /// How it spells the name, when not as it was asked.
    pub spelled: Option<String>,
    /// The extended error it sends.
    pub ede: Option<u16>,
    /// Its answer carries no OPT.
    pub noedns: bool,
    /// It answers over UDP instead of TCP.
    pub udp: bool,
    /// How long it takes.
    pub after: Option<Span>,
    /// It does not answer.
    pub fails: Option<Fails>,
}

/// Ways of not answering.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fails {
    /// Nothing comes before the deadline.
    Timeout,
    /// It cannot be reached.
    Unreachable,
    /// Nothing comes, and the deadline is not kept either.
    Hangs,
}

/// Bits of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Flag {
    Aa,
    Tc,
    Rd,
    Ra,
    Ad,
    Cd,
}

/// One step: exactly one of `ask`, `answer_to`, `pass`, `flush`, `upstream_is`, `upstream_asked`, and what goes with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Asks, in the manner of `dig`; with a range, once for each value.
    pub ask: Option<String>,
    /// With `ask`: how many clients ask at once.
    pub askers: Option<usize>,
    /// With `ask`: they do not wait here, but at the step `answer_to` this name.
    pub later: Option<String>,
    /// With `ask`: by how much the clock reading of the packet's batch lies behind.
    pub behind: Option<Span>,
    /// Waits for the answers to what was asked earlier.
    pub answer_to: Option<String>,
    /// With `ask` and `answer_to`: what each asker gets.
    pub gets: Option<Gets>,
    /// Time passes.
    pub pass: Option<Span>,
    /// Entries are forgotten.
    pub flush: Option<Flush>,
    /// From now on this is said to be the condition of the upstream's servers.
    pub upstream_is: Option<Is>,
    /// How often the upstream has been asked since the beginning: in all, or per question.
    pub upstream_asked: Option<Asked>,
}

/// How it is with the upstream's servers.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Is {
    /// At least one works.
    Well,
    /// None works, one did just before.
    Shaken,
    /// None works.
    Down,
}

/// What is forgotten.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Flush {
    /// The word `all`.
    All(All),
    /// A name or a zone.
    Some(Under),
}

/// The word `all`.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// Everything.
    All,
}

/// A part of the names.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Under {
    /// One name.
    Name(String),
    /// A name and all below it.
    Zone(String),
}

/// How often the upstream was asked.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Asked {
    /// In all.
    Total(usize),
    /// Per question.
    Each(BTreeMap<String, usize>),
}

/// What an asker gets. What is not written is not looked at, except the RCODE.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gets {
    /// RCODE.
    pub rcode: Rcode,
    /// The answer section, in this order.
    pub answer: Option<Records>,
    /// The authority section.
    pub authority: Option<Records>,
    /// The additional section, OPT apart.
    pub additional: Option<Records>,
    /// How many records the answer section has.
    pub answers: Option<usize>,
    /// The flags that are set, no more and no less.
    pub flags: Option<Vec<Flag>>,
    /// The extended error; 0 is one, `none` is none.
    pub ede: Option<Ede>,
    /// How the answer came about.
    pub source: Option<String>,
    /// The zone it was counted under.
    pub zone: Option<String>,
    /// How long it took.
    pub took: Option<Span>,
    /// How long the message is at most, in octets.
    #[serde(rename = "atMost")]
    pub at_most: Option<usize>,
}

/// An extended error, or that there must be none.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Ede {
    /// This code.
    Code(u16),
    /// The word `none`.
    None(NoEde),
}

/// The word `none`.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoEde {
    /// None.
    None,
}

impl Scenario {
    /// Reads a file.
    pub fn read(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = yaml_serde::from_str(text).map_err(|e| e.to_string())?;
        if scenario.about.trim().is_empty() {
            return Err("`about` says nothing".into());
        }
        if scenario.settings.zones.iter().any(|zone| zone.names.is_empty()) {
            return Err("a zone without `match`".into());
        }
        for (n, step) in scenario.steps.iter().enumerate() {
            step.check().map_err(|e| format!("step {}: {e}", n + 1))?;
        }
        Ok(scenario)
    }
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let actions = [
            self.ask.is_some(),
            self.answer_to.is_some(),
            self.pass.is_some(),
            self.flush.is_some(),
            self.upstream_is.is_some(),
            self.upstream_asked.is_some(),
        ];
        if actions.iter().filter(|a| **a).count() != 1 {
            return Err("a step is one of ask, answer_to, pass, flush, upstream_is, upstream_asked".into());
        }
        if (self.askers.is_some() || self.later.is_some() || self.behind.is_some()) && self.ask.is_none() {
            return Err("askers, later and behind belong to ask".into());
        }
        let answered = (self.ask.is_some() && self.later.is_none()) || self.answer_to.is_some();
        if answered != self.gets.is_some() {
            return Err("what is answered `gets` something, what is not does not".into());
        }
        if let Some(ask) = &self.ask {
            super::text::expand(ask)?.iter().try_for_each(|a| a.parse::<Ask>().map(drop))?;
        }
        Ok(())
    }
}
