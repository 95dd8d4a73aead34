//! What the rules of a zone say, and what is remembered and told of it.

use super::*;
use crate::config::load_str;
use crate::observe::coredns::cells::Plugin;
use crate::observe::errors::{Consolidate, Errors, Failure};
use crate::resolve::Behind;
use crate::resolve::local::rewrite::Rewrites;
use crate::resolve::local::{Answers as Rule, Asked, Said};
use std::collections::VecDeque;

const MINUTE: Duration = Duration::from_secs(60);
const STALE: Stale = Stale {
    max_age: Duration::from_secs(3600),
    answer_ttl: 30,
    client_wait: MINUTE,
    recheck: MINUTE,
    prefer_positive: false,
};

/// A rule that says one thing after another, and then nothing.
struct Script(Mutex<VecDeque<Said>>);

impl Rule for Script {
    fn answer(&self, _: &Asked<'_>) -> Said {
        self.0.lock().unwrap().pop_front().unwrap_or(Said::Next)
    }

    fn plugin(&self) -> Plugin {
        Plugin::Template
    }
}

/// With these rules for all names: what `rewrite` says in YAML, and what is said here.
fn ruled(upstream: &Arc<Upstream>, rewrite: &str, says: Vec<Said>) -> Zone {
    let text = format!("zones:\n- match: [.]\n  forward: {{to: [192.0.2.1]}}\n  rewrite: {rewrite}\n");
    let config = load_str("f", &text).unwrap_or_else(|problems| panic!("{text}{problems}")).config;
    let rewrites = Some(Rewrites::new(&config.zones[0].rewrite).unwrap());
    let answers: Vec<Arc<dyn Rule>> = vec![Arc::new(Script(Mutex::new(says.into())))];
    let behind = Some(Arc::new(Behind { rewrites, minimal: false, answers }));
    Zone { behind, ..zone(".", 1, upstream) }
}

/// All failures, told together.
fn together() -> Arc<Errors> {
    let matching = regex_lite::Regex::new(".*").unwrap();
    Arc::new(Errors::new(
        vec![Consolidate { every: MINUTE, matching, level: tracing::Level::ERROR, show_first: false }],
        "udp",
    ))
}

/// Has any failure been told?
fn is_told(errors: &Errors, now: Moment) -> bool {
    let question = Question::new(&wire("other.example"), rtype::A, CLASS_IN).unwrap();
    errors.failed(&Failure { rcode: rcode::SERVFAIL, question: &question, why: "another" }, now).is_none()
}

#[tokio::test(start_paused = true)]
async fn failures_that_a_rule_gives_another_code_are_failures() {
    let rule = "[{rcode: {kind: suffix, name: example, from: SERVFAIL, to: NXDOMAIN}}]";
    for act in [Act::Fail, Act::Rcode(rcode::SERVFAIL)] {
        let upstream = Upstream::new(&[act]);
        let errors = together();
        let house = House::new(
            vec![Zone { errors: Some(Arc::clone(&errors)), ..ruled(&upstream, rule, Vec::new()) }],
            Limits::default(),
        );
        let first = house.get("www.example").await;
        assert_eq!((first.rcode, first.source), (rcode::NXDOMAIN, Source::Miss));
        let again = house.get("www.example").await;
        assert_eq!((again.rcode, again.source, upstream.asked()), (rcode::NXDOMAIN, Source::NegativeHit, 1));
        assert_eq!(is_told(&errors, house.now()), matches!(act, Act::Fail), "answers are not told, whatever they say");

        let upstream = Upstream::new(&[Act::Answer(1), act]);
        let zone = Zone { stale: Some(STALE), ..ruled(&upstream, rule, Vec::new()) };
        let house = House::new(vec![zone], Limits::default());
        assert_eq!(octet(&house.get("www.example").await), Some(1));
        house.pass(Duration::from_secs(31)).await;
        let old = house.get("www.example").await;
        assert_eq!((octet(&old), old.source, upstream.asked()), (Some(1), Source::Stale, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn failures_that_rules_make_are_told() {
    let says = |rcode| vec![Said::Fail { rcode, why: "no entry".into() }];
    for (rcode, told) in [(rcode::SERVFAIL, true), (rcode::REFUSED, false)] {
        let (upstream, errors) = (Upstream::new(&[Act::Answer(1)]), together());
        let zone = Zone { errors: Some(Arc::clone(&errors)), ..ruled(&upstream, "[]", says(rcode)) };
        let house = House::new(vec![zone], Limits::default());
        assert_eq!(house.get("www.example").await.rcode, rcode);
        assert_eq!(is_told(&errors, house.now()), told, "{rcode}");
    }
}

/// An empty answer without SOA, which may not be kept.
fn nothing(rcode: u16) -> Said {
    let question = Question::new(&wire("www.example"), rtype::A, CLASS_IN).unwrap();
    let message = crate::wire::rr::response(&question, rcode, true, [&[], &[], &[]]).unwrap();
    Said::Answer { message, error: None, chase: None }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_here_ends_the_old_answer_though_it_is_not_kept() {
    for (code, ends) in [(rcode::NXDOMAIN, true), (rcode::NOERROR, true), (rcode::SERVFAIL, false)] {
        let upstream = Upstream::new(&[Act::Answer(1), Act::Fail]);
        let zone = ruled(&upstream, "[]", vec![Said::Next, nothing(code)]);
        let house = House::new(vec![Zone { stale: Some(STALE), ..zone }], Limits::default());
        assert_eq!(octet(&house.get("www.example").await), Some(1));
        house.pass(Duration::from_secs(31)).await;
        let here = house.get("www.example").await;
        assert_eq!((here.rcode, here.source, upstream.asked()), (code, Source::Local, 1));
        let source = house.get("www.example").await.source;
        assert_eq!((source, upstream.asked()), (if ends { Source::Miss } else { Source::Stale }, 2), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_here_ends_the_memory_of_failures() {
    let upstream = Upstream::new(&[Act::Fail]);
    let zone = ruled(&upstream, "[]", vec![Said::Next, nothing(rcode::NXDOMAIN)]);
    let house = House::new(vec![zone], Limits::default());
    assert_eq!(house.get("www.example").await.rcode, rcode::SERVFAIL);
    house.pass(Duration::from_secs(1)).await;
    assert_eq!(house.get("www.example").await.source, Source::Local);
    assert_eq!((house.get("www.example").await.source, upstream.asked()), (Source::Miss, 2));
    house.pass(Duration::from_secs(1)).await;
    assert_eq!((house.get("www.example").await.source, upstream.asked()), (Source::Miss, 3), "not twice as long");
}
