//! What the rules of a zone do with look-ups: those that they ask for themselves, and hits that they have a say in.

use super::*;
use crate::cache;
use crate::config;
use crate::observe::coredns::cells::Plugin;
use crate::resolve::local::dns64::Dns64;
use crate::resolve::local::{Answers as Rule, Asked, Said};
use crate::resolve::{Before, Behind};
use crate::wire::rr::{Rr, response};

/// Upstreams by what is asked for.
struct ByType {
    aaaa: Arc<Upstream>,
    a: Arc<Upstream>,
}

impl Exchange for ByType {
    fn exchange<'a>(&'a self, query: Query<'a>, deadline: Instant) -> Exchanged<'a> {
        let end = query.message.len() - query.opt_len;
        let is_aaaa = query.message[end - 4..end - 2] == rtype::AAAA.to_be_bytes();
        let upstream = if is_aaaa { &self.aaaa } else { &self.a };
        upstream.exchange(query, deadline)
    }
}

/// A house that makes IPv6 addresses of IPv4 ones, and what is behind it.
fn translating(aaaa: &[Act], a: &[Act]) -> (House, Arc<Upstream>, Arc<Upstream>) {
    let (aaaa, a) = (Upstream::new(aaaa), Upstream::new(a));
    let prefix = "64:ff9b::".parse().unwrap();
    let rule = config::Dns64 { prefix, length: 96, translate_all: false, allow_ipv4: true };
    let before = Before { dns64: Some(Dns64::new(rule)), ..Before::default() };
    let upstream = Arc::new(ByType { aaaa: Arc::clone(&aaaa), a: Arc::clone(&a) });
    let zone = Zone { upstream, before: Some(Arc::new(before)), ..zone(".", 1, &a) };
    (House::new(vec![zone], Limits::default()), aaaa, a)
}

impl House {
    /// One client asks for an IPv6 address.
    fn ask_aaaa(&self, name: &str) -> Answers {
        let answers = Answers::default();
        let question = Question::new(&wire(name), rtype::AAAA, CLASS_IN).unwrap().as_bytes().into();
        let miss = Miss { question, ..self.miss(name, 1, &answers) };
        assert!(self.resolver.submit(miss).is_ok());
        answers
    }
}

#[tokio::test(start_paused = true)]
async fn an_ipv4_address_that_cannot_be_looked_up_is_a_failure_and_no_empty_answer() {
    for (act, rcode) in [(Act::Fail, rcode::SERVFAIL), (Act::Refuse, rcode::REFUSED), (Act::Hang, rcode::SERVFAIL)] {
        let (house, _, a) = translating(&[Act::Rcode(0)], &[act]);
        let first = house.ask_aaaa("www.example");
        house.pass(Duration::from_secs(5)).await;
        let outcome = one(&first);
        assert_eq!((outcome.rcode, outcome.entry.is_none(), a.asked()), (rcode, true, 1));
    }
    let (house, _, a) = translating(&[Act::Rcode(0)], &[Act::Fail]);
    for asked in [1, 1] {
        let answers = house.ask_aaaa("www.example");
        house.settle().await;
        assert_eq!((one(&answers).rcode, a.asked()), (rcode::SERVFAIL, asked), "nor is a remembered one");
    }
    let (house, ..) = translating(&[Act::Rcode(0)], &[Act::Answer(7)]);
    let answers = house.ask_aaaa("www.example");
    house.settle().await;
    assert_eq!((one(&answers).rcode, octet(&one(&answers))), (0, Some(7)));
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn answers_of_zones_with_rules_are_renewed_early_as_well() {
    let upstream = Upstream::new(&[Act::Answer(1), Act::Answer(2)]);
    let prefetch = Some(cache::Prefetch { min_hits: 2, remaining: 10 });
    let before = Some(Arc::new(Before { refuse_any: true, ..Before::default() }));
    let house = House::new(vec![Zone { prefetch, before, ..zone(".", 1, &upstream) }], Limits::default());
    assert_eq!(octet(&house.get("www.example").await), Some(1));
    house.pass(Duration::from_secs(29)).await;
    for _ in 0..9 {
        assert_eq!(house.get("www.example").await.source, Source::Hit);
    }
    assert_eq!(upstream.asked(), 2);
    assert_eq!(house.counted("nodens_prefetches_total{outcome=\"renewed\"}"), 1);
    assert_eq!(octet(&house.get("www.example").await), Some(2));
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn both_look_ups_of_a_translation_share_one_patience() {
    let (house, aaaa, a) = translating(&[Act::GatedRcode(0)], &[Act::Hang, Act::Answer(1)]);
    let answers = house.ask_aaaa("www.example");
    house.pass(Duration::from_secs(4)).await;
    aaaa.gate.notify_one();
    house.pass(Duration::from_millis(749)).await;
    assert!(waits(&answers) && a.asked() == 1);
    house.pass(Duration::from_millis(1)).await;
    assert_eq!(one(&answers).rcode, rcode::SERVFAIL);
    assert_eq!(octet(&house.get("www.example").await), Some(1), "so short a try says nothing of the question");
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn f12_translated_answers_are_let_go_like_others_when_they_are_late() {
    for (proto, answered) in [(Proto::Udp, FEW), (Proto::Tcp, 40)] {
        let (house, _, a) = translating(&[Act::Rcode(0)], &[Act::Gated(1)]);
        let ask = |i| {
            let answers = Answers::default();
            let question = Question::new(&wire(&format!("n{i}.example")), rtype::AAAA, CLASS_IN).unwrap();
            let miss = house.miss_over(proto, "", 1, &answers);
            assert!(house.resolver.submit(Miss { question: question.as_bytes().into(), ..miss }).is_ok());
            answers
        };
        let all: Vec<Answers> = (0..40).map(ask).collect();
        house.pass(LATE).await;
        a.gate.notify_waiters();
        house.settle().await;
        assert_eq!(all.iter().filter(|answers| !waits(answers)).count(), answered, "{proto:?}");
        house.assert_idle();
    }
}

/// A rule that says that each name is an alias of itself, with this before it.
struct Alias(&'static str, AtomicUsize);

impl Rule for Alias {
    fn answer(&self, asked: &Asked<'_>) -> Said {
        self.1.fetch_add(1, Relaxed);
        let owner = asked.question.name().to_vec();
        let label = if self.0.is_empty() { vec![] } else { [&[self.0.len() as u8], self.0.as_bytes()].concat() };
        let target = [label, owner.clone()].concat();
        let alias = Rr { owner, rtype: rtype::CNAME, class: CLASS_IN, ttl: 0, rdata: target.clone() };
        let message = response(asked.question, 0, true, [&[alias], &[], &[]]).unwrap();
        Said::Answer { message, error: None, chase: Some(target) }
    }

    fn plugin(&self) -> Plugin {
        Plugin::Template
    }
}

fn aliases(label: &'static str, limits: Limits) -> (House, Arc<Alias>) {
    let rule = Arc::new(Alias(label, AtomicUsize::new(0)));
    let behind = Behind { answers: vec![Arc::clone(&rule) as Arc<dyn Rule>], ..Behind::default() };
    let upstream = Upstream::new(&[Act::Fail]);
    let zone = Zone { behind: Some(Arc::new(behind)), ..zone(".", 1, &upstream) };
    (House::new(vec![zone], limits), rule)
}

#[tokio::test(start_paused = true)]
async fn rules_that_lead_ever_further_are_followed_a_few_steps_and_one_to_itself_not_at_all() {
    for (label, asked) in [("x", 9), ("", 1)] {
        let (house, rule) = aliases(label, Limits::default());
        // At once: no time passes.
        let outcome = house.get("www.example").await;
        assert_eq!((outcome.rcode, rule.1.load(Relaxed)), (0, asked), "{label}");
        let message = outcome.entry.as_ref().unwrap().as_stored().message.to_vec();
        assert_eq!(usize::from(Header::read(&message).unwrap().ancount), asked);
        house.assert_idle();
    }
}

#[tokio::test(start_paused = true)]
async fn f03_look_ups_of_rules_are_bounded_like_those_of_clients() {
    let (house, rule) = aliases("x", Limits { in_flight: 3, ..Limits::default() });
    assert_eq!((house.get("www.example").await.rcode, rule.1.load(Relaxed)), (0, 3));
    assert_eq!(house.counted("nodens_dropped_total{reason=\"in_flight\"}"), 1);
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn g04_what_was_sorted_by_old_zones_is_not_kept_beside_new_ones() {
    let (old, new) = (Upstream::new(&[Act::Answer(1)]), Upstream::new(&[Act::Answer(2)]));
    let house = House::before(&old);
    let answers = Answers::default();
    let miss = house.miss("www.example", 1, &answers);
    // The batch has its zones, then comes a reload, then the miss has its turn.
    let force = house.resolver.inner.in_force();
    house.resolver.reconfigure(Zones::new([Zone { revision: 7, ..zone(".", 1, &new) }]), Limits::default());
    assert!(house.resolver.inner.admit());
    house.resolver.inner.place(miss, &force);
    house.settle().await;
    assert_eq!(octet(&one(&answers)), Some(1));
    let later = house.get("www.example").await;
    assert_eq!((later.source, octet(&later)), (Source::Miss, Some(2)));
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn g04_a_miss_that_was_queued_before_a_reload_is_in_the_view_of_its_address_after_it() {
    let (one_view, other) = (Upstream::new(&[Act::Answer(1)]), Upstream::new(&[Act::Answer(2)]));
    let house = House::before(&one_view);
    let place = |last| SocketAddr::from(([127, 0, 0, last], 53));
    let zones = [(vec![place(9)], &one_view), (vec![place(1)], &other)];
    let views = zones.map(|(places, upstream)| (places, vec![Arc::new(zone(".", 1, upstream))]));
    house.resolver.reconfigure(Zones::of_views(views), Limits::default());
    assert_eq!(octet(&house.get("www.example").await), Some(2), "its number was 0, which is now another's");
    house.assert_idle();
}
