//! What the rules of a zone do with look-ups: those that they ask for themselves, and hits that they have a say in.

use super::*;
use crate::cache;
use crate::config;
use crate::resolve::Before;
use crate::resolve::local::dns64::Dns64;

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
