//! Rows of the behaviour table about look-ups: who waits on what, how much, and for how long.
//!
//! The upstream is a script; time stands still unless a test moves it.

mod behind;
mod rules;

use super::*;
use crate::cache::Flags;
use crate::cache::{Stale, Ttls};
use crate::observe::queries::{Family, Source};
use crate::resolve::{Waiter, Zone};
use crate::upstream::{Error, Exchange, Exchanged, Query, Reply, Transport};
use crate::wire::edns::ede;
use crate::wire::header::{self, Header, rcode};
use crate::wire::question::to_wire as wire;
use crate::wire::question::{CLASS_IN, rtype};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use tokio::sync::Notify;
use tokio::time::Instant;

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);

/// What the upstream does.
#[derive(Clone, Copy)]
enum Act {
    /// Answers with one address that ends in this octet, TTL 30.
    Answer(u8),
    /// The same, once the test opens the gate.
    Gated(u8),
    /// Answers with this RCODE.
    Rcode(u16),
    /// The same, once the test opens the gate.
    GatedRcode(u16),
    /// Says at once that nobody can be reached.
    Fail,
    /// Takes no more queries.
    Refuse,
    /// Says nothing, past every deadline.
    Hang,
}

/// An upstream that does one thing after another, and the last thing from then on.
struct Upstream {
    acts: Vec<Act>,
    asked: AtomicUsize,
    gate: Notify,
}

impl Upstream {
    fn new(acts: &[Act]) -> Arc<Upstream> {
        Arc::new(Upstream { acts: acts.to_vec(), asked: AtomicUsize::new(0), gate: Notify::new() })
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

impl Exchange for Upstream {
    fn exchange<'a>(&'a self, query: Query<'a>, _: Instant) -> Exchanged<'a> {
        Box::pin(async move {
            let n = self.asked.fetch_add(1, Relaxed);
            let (rcode, octet) = match self.acts[n.min(self.acts.len() - 1)] {
                Act::Answer(octet) => (0, Some(octet)),
                Act::Gated(octet) => {
                    self.gate.notified().await;
                    (0, Some(octet))
                }
                Act::Rcode(rcode) => (rcode, None),
                Act::GatedRcode(rcode) => {
                    self.gate.notified().await;
                    (rcode, None)
                }
                Act::Fail => return Err(Error::NoServers),
                Act::Refuse => return Err(Error::Crowded { most: 1 }),
                Act::Hang => std::future::pending().await,
            };
            let mut message = query.message[..query.message.len() - query.opt_len].to_vec();
            let header = Header::read(&message).unwrap();
            let ancount = u16::from(octet.is_some());
            Header { flags: header.flags | header::QR | rcode, ancount, arcount: 0, ..header }.write(&mut message);
            if let Some(octet) = octet {
                message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, octet]);
            }
            Ok(Reply { message, server: SERVER.into(), transport: Transport::Tcp, elapsed: Duration::ZERO })
        })
    }
}

/// The answers that one client, or many, got.
type Answers = Arc<Mutex<Vec<Outcome>>>;

struct Client(Answers);

impl Waiter for Client {
    fn answer(self: Box<Self>, outcome: &Outcome) {
        self.0.lock().unwrap().push(outcome.clone());
    }
}

fn zone(name: &str, label: u16, upstream: &Arc<Upstream>) -> Zone {
    let ttls = Ttls { positive: (0, 30), negative: (0, 5), failure: Duration::from_secs(5), one: false };
    Zone::new(&wire(name), label, Arc::clone(upstream) as Arc<dyn Exchange>, ttls)
}

/// A resolver and everything around it.
struct House {
    resolver: Resolver,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    nanos: Arc<AtomicU64>,
}

impl House {
    fn new(zones: Vec<Zone>, limits: Limits) -> House {
        let store = Arc::new(Store::new(1 << 20));
        let metrics = Metrics::new();
        let nanos = Arc::new(AtomicU64::new(1_000_000_000_000));
        let clock = Clock::Manual(Arc::clone(&nanos));
        let resolver = Resolver::start(Arc::clone(&store), Zones::new(zones), limits, Arc::clone(&metrics), clock);
        House { resolver, store, metrics, nanos }
    }

    /// With `upstream` for all names, and the usual limits.
    fn before(upstream: &Arc<Upstream>) -> House {
        House::new(vec![zone(".", 1, upstream)], Limits::default())
    }

    fn now(&self) -> Moment {
        Moment(self.nanos.load(Relaxed))
    }

    fn miss(&self, name: &str, client: u32, answers: &Answers) -> Miss {
        self.miss_over(Proto::Udp, name, client, answers)
    }

    fn miss_over(&self, proto: Proto, name: &str, client: u32, answers: &Answers) -> Miss {
        Miss {
            question: Question::new(&wire(name), rtype::A, CLASS_IN).unwrap().as_bytes().into(),
            flags: Flags::default(),
            recursion_desired: true,
            client: (Ipv4Addr::from_bits(0x0a00_0000 + client), 5353).into(),
            place: (Ipv4Addr::LOCALHOST, 53).into(),
            arrived: self.now(),
            proto,
            depth: 0,
            cells: self.metrics.cells(proto, Family::V4, 0, true),
            waiter: Box::new(Client(Arc::clone(answers))),
        }
    }

    /// One client asks; its answers, of which there should be one, come in time.
    fn ask(&self, name: &str, client: u32) -> Answers {
        self.ask_over(Proto::Udp, name, client)
    }

    async fn ask_and_settle(&self, name: &str, client: u32) -> Answers {
        let answers = self.ask(name, client);
        self.settle().await;
        answers
    }

    fn ask_over(&self, proto: Proto, name: &str, client: u32) -> Answers {
        let answers = Answers::default();
        assert!(self.resolver.submit(self.miss_over(proto, name, client, &answers)).is_ok());
        answers
    }

    /// Lets everything run that needs no time: one round per miss to sort is more than enough.
    async fn settle(&self) {
        for _ in 0..256 {
            tokio::task::yield_now().await;
        }
    }

    async fn pass(&self, time: Duration) {
        self.settle().await;
        self.nanos.fetch_add(time.as_nanos() as u64, Relaxed);
        tokio::time::advance(time).await;
        self.settle().await;
    }

    /// One client asks and is answered without waiting.
    async fn get(&self, name: &str) -> Outcome {
        let answers = self.ask(name, 1);
        self.settle().await;
        one(&answers)
    }

    /// Nobody waits, and nothing remembers that anybody did.
    fn assert_idle(&self) {
        assert_eq!(self.resolver.in_flight(), 0);
        let book = self.resolver.inner.book();
        assert_eq!((book.flights.len(), book.clients.len()), (0, 0));
    }

    fn counted(&self, series: &str) -> u64 {
        let page = self.metrics.gather();
        let line =
            page.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{series}: {page}"));
        line.trim().parse().unwrap()
    }
}

/// The only answer.
fn one(answers: &Answers) -> Outcome {
    let answers = answers.lock().unwrap();
    assert_eq!(answers.len(), 1, "each is answered once");
    answers[0].clone()
}

fn waits(answers: &Answers) -> bool {
    answers.lock().unwrap().is_empty()
}

/// The last octet of the answer's address.
fn octet(outcome: &Outcome) -> Option<u8> {
    outcome.entry.as_ref()?.as_stored().message.last().copied()
}

fn ede_of(outcome: &Outcome) -> Option<u16> {
    outcome.error.as_ref().map(|(code, _)| *code)
}

#[tokio::test(start_paused = true)]
async fn d25_ten_thousand_askers_are_one_question_upstream() {
    let upstream = Upstream::new(&[Act::Gated(1)]);
    let house = House::before(&upstream);
    let answers = Answers::default();
    for i in 0..10_000 {
        assert!(house.resolver.submit(house.miss("www.example", i % 20, &answers)).is_ok());
    }
    house.settle().await;
    assert_eq!((upstream.asked(), house.resolver.in_flight()), (1, 10_000));
    assert!(waits(&answers));
    upstream.gate.notify_one();
    house.settle().await;
    let got = answers.lock().unwrap();
    assert_eq!(got.len(), 10_000);
    assert!(got.iter().all(|o| octet(o) == Some(1) && o.source == Source::Miss));
    assert_eq!((upstream.asked(), house.counted("nodens_coalesced_total")), (1, 9_999));
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn d26_an_upstream_that_hangs_holds_nobody_past_the_deadline() {
    let upstream = Upstream::new(&[Act::Hang, Act::Answer(1)]);
    let house = House::before(&upstream);
    let early = house.ask("www.example", 1);
    house.pass(Duration::from_millis(4000)).await;
    let late = house.ask("www.example", 2);
    house.pass(Duration::from_millis(749)).await;
    assert!(waits(&early) && waits(&late));
    house.pass(Duration::from_millis(1)).await;
    for outcome in [one(&early), one(&late)] {
        assert_eq!((outcome.rcode, ede_of(&outcome)), (rcode::SERVFAIL, Some(ede::NO_REACHABLE_AUTHORITY)));
    }
    house.assert_idle();
    house.pass(Duration::from_secs(1)).await;
    assert_eq!(octet(&house.get("www.example").await), Some(1));
}

#[tokio::test(start_paused = true)]
async fn d26_the_first_asker_may_go_away() {
    let upstream = Upstream::new(&[Act::Gated(1)]);
    let house = House::before(&upstream);
    // Its end of the line is gone before the answer comes.
    drop(house.ask("www.example", 1));
    house.settle().await;
    let other = house.ask("www.example", 2);
    house.settle().await;
    upstream.gate.notify_one();
    house.settle().await;
    assert_eq!(octet(&one(&other)), Some(1));
    assert_eq!(house.get("www.example").await.source, Source::Hit, "and the answer is kept");
    assert_eq!(upstream.asked(), 1);
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_meanwhile_is_used() {
    let upstream = Upstream::new(&[Act::Answer(1), Act::Answer(2)]);
    let house = House::before(&upstream);
    // Two misses that the cache did not know of when they were judged; the first is answered before the second is sorted.
    assert_eq!(house.get("www.example").await.source, Source::Miss);
    house.pass(Duration::from_secs(7)).await;
    let second = house.get("www.example").await;
    assert_eq!((second.source, octet(&second)), (Source::Hit, Some(1)));
    assert_eq!(second.entry.unwrap().age(second.at), 7);
    house.pass(Duration::from_secs(23)).await;
    assert_eq!(octet(&house.get("www.example").await), Some(2), "an expired one is not");
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn f02_one_client_has_so_many_queries_and_no_more() {
    let upstream = Upstream::new(&[Act::Gated(1)]);
    let limits = Limits { in_flight_per_client: 2, ..Limits::default() };
    let house = House::new(vec![zone(".", 1, &upstream)], limits);
    let first = house.ask("a.example", 1);
    let second = house.ask("a.example", 1);
    let third = house.ask("b.example", 1);
    let other = house.ask("b.example", 2);
    house.settle().await;
    let refused = one(&third);
    assert_eq!((refused.rcode, ede_of(&refused)), (rcode::REFUSED, Some(ede::PROHIBITED)));
    assert_eq!((refused.source, refused.zone), (Source::Refused, 1));
    assert_eq!(house.counted("nodens_dropped_total{reason=\"in_flight_per_client\"}"), 1);
    assert!(waits(&first) && waits(&second) && waits(&other));
    assert_eq!((upstream.asked(), house.resolver.in_flight()), (2, 3));
    upstream.gate.notify_waiters();
    house.settle().await;
    for answers in [&first, &second, &other] {
        assert_eq!(octet(&one(answers)), Some(1));
    }
    house.assert_idle();
    let again = house.ask("c.example", 1);
    house.settle().await;
    assert!(waits(&again), "its share is free again");
}

#[tokio::test(start_paused = true)]
async fn f02_an_old_answer_is_given_to_a_client_that_has_all_it_may_in_flight() {
    let upstream = Upstream::new(&[Act::Answer(1), Act::Hang]);
    let rules = Stale {
        max_age: Duration::from_secs(3600),
        answer_ttl: 30,
        client_wait: Duration::from_millis(1800),
        recheck: Duration::from_secs(30),
        prefer_positive: false,
    };
    let zone = Zone { stale: Some(rules), ..zone(".", 1, &upstream) };
    let house = House::new(vec![zone], Limits { in_flight_per_client: 1, ..Limits::default() });
    assert_eq!(octet(&house.get("www.example").await), Some(1));
    house.pass(Duration::from_secs(30)).await;
    let slow = house.ask("www.example", 1);
    house.pass(Duration::from_millis(1800)).await;
    assert_eq!(one(&slow).source, Source::Stale);
    let waits_for_another = house.ask("new.example", 1);
    house.settle().await;
    assert!(waits(&waits_for_another));
    assert_eq!(one(&house.ask_and_settle("www.example", 1).await).source, Source::Stale, "it is under way");
    assert_eq!(one(&house.ask_and_settle("other.example", 1).await).source, Source::Refused);
    house.pass(Duration::from_secs(5)).await;
    assert_eq!(one(&waits_for_another).rcode, rcode::SERVFAIL);
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn f03_all_clients_have_so_many_queries_and_no_more() {
    let upstream = Upstream::new(&[Act::Gated(1)]);
    let limits = Limits { in_flight: 2, ..Limits::default() };
    let house = House::new(vec![zone(".", 1, &upstream)], limits);
    let (first, second) = (house.ask("a.example", 1), house.ask("b.example", 2));
    let third = Answers::default();
    let back = house.resolver.submit(house.miss("a.example", 3, &third)).expect_err("a third is one too many");
    assert_eq!(back.question[..], *Question::new(&wire("a.example"), rtype::A, CLASS_IN).unwrap().as_bytes());
    assert_eq!(house.counted("nodens_dropped_total{reason=\"in_flight\"}"), 1);
    assert_eq!(house.resolver.in_flight(), 2);
    house.settle().await;
    upstream.gate.notify_waiters();
    house.settle().await;
    assert_eq!((octet(&one(&first)), octet(&one(&second))), (Some(1), Some(1)));
    assert!(waits(&third), "whoever handed it over has it back, and answers it");
    house.assert_idle();
    assert!(house.resolver.submit(house.miss("c.example", 3, &third)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn f03_look_ups_that_nobody_waits_for_are_bounded_as_well() {
    for client_wait in [Duration::ZERO, Duration::from_millis(10)] {
        look_ups_that_nobody_waits_for(client_wait).await;
    }
}

async fn look_ups_that_nobody_waits_for(client_wait: Duration) {
    let upstream = Upstream::new(&[&[Act::Answer(1); 8][..], &[Act::Hang]].concat());
    let (max_age, recheck) = (Duration::from_secs(3600), Duration::from_secs(30));
    let stale = Stale { max_age, answer_ttl: 30, client_wait, recheck, prefer_positive: false };
    let limits = Limits { in_flight: 4, ..Limits::default() };
    let house = House::new(vec![Zone { stale: Some(stale), ..zone(".", 1, &upstream) }], limits);
    let names = |i| format!("n{i}.example");
    for i in 0..8 {
        assert_eq!(house.get(&names(i)).await.source, Source::Miss);
    }
    house.pass(Duration::from_secs(30)).await;
    for i in 0..8 {
        let answers = house.ask(&names(i), 1);
        house.pass(client_wait).await;
        let outcome = one(&answers);
        assert_eq!((outcome.source, octet(&outcome)), (Source::Stale, Some(1)), "nobody is refused an old answer");
    }
    assert_eq!((house.resolver.flights(), upstream.asked()), (4, 12));
    // Those that had to stay have their turn as soon as there is room.
    house.pass(Duration::from_secs(5)).await;
    house.assert_idle();
    for i in 0..8 {
        let answers = house.ask(&names(i), 1);
        house.pass(client_wait).await;
        assert_eq!(one(&answers).source, Source::Stale);
    }
    assert_eq!((house.resolver.flights(), upstream.asked()), (4, 16));
}

#[tokio::test(start_paused = true)]
async fn f12_answers_saved_up_for_one_address_are_let_go_but_for_a_few() {
    let upstream = Upstream::new(&[Act::Gated(1)]);
    let house = House::before(&upstream);
    let names = |i| format!("n{i}.bomb.example");
    let victim: Vec<Answers> = (0..100).map(|i| house.ask(&names(i), 1)).collect();
    let other = house.ask("www.example", 2);
    let over_tcp: Vec<Answers> = (0..100).map(|i| house.ask_over(Proto::Tcp, &names(i), 3)).collect();
    house.pass(LATE).await;
    for _ in 0..101 {
        upstream.gate.notify_one();
        house.settle().await;
    }
    let answered = |all: &[Answers]| all.iter().filter(|answers| !waits(answers)).count();
    assert_eq!(answered(&victim), FEW, "the pulse");
    assert_eq!(answered(&over_tcp), 100, "addresses cannot be forged there");
    assert_eq!(octet(&one(&other)), Some(1), "who waits for little gets it, late or not");
    assert_eq!(house.counted("nodens_dropped_total{reason=\"late\"}"), 100 - FEW as u64);
    house.assert_idle();
    assert_eq!(house.get(&names(0)).await.source, Source::Hit, "and what came is kept");
}

/// An answer of [`House`]'s upstream as the store has it.
fn stored(house: &House, name: &str) -> Entry {
    let question = Question::new(&wire(name), rtype::A, CLASS_IN).unwrap();
    house.store.find(&house.store.key(question.as_bytes(), Flags::default())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn e05_an_answer_is_renewed_once_and_a_few_at_a_time() {
    let upstream = Upstream::new(&[Act::Gated(1)]);
    let house = House::before(&upstream);
    let names = |i: usize| format!("n{i}.example");
    let limits = Limits { in_flight: 100, ..Limits::default() };
    house.resolver.reconfigure(Zones::new([zone(".", 1, &upstream)]), limits);
    for i in 0..=PREFETCHES {
        let answer = house.ask(&names(i), 1);
        house.settle().await;
        upstream.gate.notify_one();
        house.settle().await;
        assert_eq!(octet(&one(&answer)), Some(1));
    }
    let asked = upstream.asked();
    house.pass(Duration::from_secs(29)).await;
    let first = stored(&house, &names(0));
    for i in (0..=PREFETCHES).chain(0..=PREFETCHES) {
        house.resolver.renew(stored(&house, &names(i)));
    }
    house.settle().await;
    assert_eq!((upstream.asked() - asked, house.resolver.flights()), (PREFETCHES, PREFETCHES));
    assert_eq!(house.counted("nodens_prefetches_total{outcome=\"skipped\"}"), 2, "the last one, each time");
    for _ in 0..PREFETCHES {
        upstream.gate.notify_one();
        house.settle().await;
    }
    assert_eq!(house.counted("nodens_prefetches_total{outcome=\"renewed\"}"), PREFETCHES as u64);
    assert_eq!(stored(&house, &names(0)).age(house.now()), 0);
    // Somebody who still holds the old answer has it renewed no more.
    house.resolver.renew(first);
    house.settle().await;
    assert_eq!((upstream.asked() - asked, house.resolver.flights()), (PREFETCHES, 0));
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn e16_who_asks_after_a_flush_joins_no_older_flight() {
    let upstream = Upstream::new(&[Act::Gated(1), Act::Gated(2)]);
    let house = House::before(&upstream);
    let before = house.ask("www.example", 1);
    house.settle().await;
    house.store.flush_all();
    let after = house.ask("www.example", 1);
    house.settle().await;
    assert_eq!(upstream.asked(), 2);
    // The gate lets them through in the order in which they came.
    upstream.gate.notify_one();
    house.settle().await;
    assert_eq!(octet(&one(&before)), Some(1));
    assert!(waits(&after));
    let question = Question::new(&wire("www.example"), rtype::A, CLASS_IN).unwrap();
    let key = house.store.key(question.as_bytes(), Flags::default());
    assert!(house.store.get(&key, house.now()).is_none(), "what was asked before the flush is not kept");
    upstream.gate.notify_one();
    house.settle().await;
    assert_eq!(octet(&one(&after)), Some(2));
    assert!(house.store.get(&key, house.now()).is_some());
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn c26_failures_are_told_again_and_asked_for_more_and_more_seldom() {
    let fails = [Act::Fail, Act::Rcode(rcode::SERVFAIL), Act::Fail, Act::Rcode(rcode::REFUSED), Act::Fail];
    let upstream = Upstream::new(&[&fails[..], &[Act::Answer(1)]].concat());
    let house = House::before(&upstream);
    for (n, (act, lasts)) in fails.iter().zip([1, 2, 4, 5, 5]).enumerate() {
        let code = if let Act::Rcode(code) = *act { code } else { rcode::SERVFAIL };
        let first = house.get("www.example").await;
        assert_eq!((first.rcode, first.source), (code, Source::Miss), "failure {n}");
        assert!(ede_of(&first).is_some_and(|code| code != ede::CACHED_ERROR));
        house.pass(Duration::from_secs(lasts) - Duration::from_nanos(1)).await;
        let again = house.get("www.example").await;
        assert_eq!((again.rcode, again.source), (code, Source::NegativeHit), "failure {n}");
        assert_eq!((ede_of(&again), again.entry.is_none()), (Some(ede::CACHED_ERROR), true));
        assert_eq!(upstream.asked(), n + 1);
        house.pass(Duration::from_nanos(1)).await;
    }
    assert_eq!(octet(&house.get("www.example").await), Some(1));
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn a_query_for_which_there_was_no_room_upstream_is_refused_and_that_is_not_remembered() {
    let upstream = Upstream::new(&[Act::Refuse, Act::Refuse, Act::Answer(1)]);
    let house = House::before(&upstream);
    for asked in 1..=2 {
        let refused = house.get("www.example").await;
        assert_eq!((refused.rcode, refused.source), (rcode::REFUSED, Source::Refused));
        assert_eq!((ede_of(&refused), upstream.asked()), (Some(ede::PROHIBITED), asked));
    }
    assert_eq!(octet(&house.get("www.example").await), Some(1));
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_is_better_than_being_refused() {
    let upstream = Upstream::new(&[Act::Answer(1), Act::Refuse, Act::Answer(2)]);
    let (max_age, wait) = (Duration::from_secs(3600), Duration::from_secs(1));
    let rules = Stale { max_age, answer_ttl: 30, client_wait: wait, recheck: wait * 30, prefer_positive: false };
    let zone = Zone { stale: Some(rules), ..zone(".", 1, &upstream) };
    let house = House::new(vec![zone], Limits::default());
    assert_eq!(octet(&house.get("www.example").await), Some(1));
    house.pass(Duration::from_secs(31)).await;
    let old = house.get("www.example").await;
    assert_eq!((octet(&old), old.stale.is_some(), upstream.asked()), (Some(1), true, 2));
    assert_eq!(octet(&house.get("www.example").await), Some(2), "asked again at once");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_remembered_for_its_own_question_only() {
    let upstream = Upstream::new(&[Act::Fail, Act::Answer(1)]);
    let house = House::before(&upstream);
    assert_eq!(house.get("www.example").await.rcode, rcode::SERVFAIL);
    assert_eq!(octet(&house.get("ftp.example").await), Some(1));
    let with = |flags, recursion_desired| {
        let answers = Answers::default();
        let miss = house.miss("www.example", 1, &answers);
        assert!(house.resolver.submit(Miss { flags, recursion_desired, ..miss }).is_ok());
        answers
    };
    let others =
        [with(Flags::new(true, false), true), with(Flags::new(false, true), true), with(Flags::default(), false)];
    house.settle().await;
    assert!(others.iter().all(|answers| octet(&one(answers)) == Some(1)));
    assert_eq!(upstream.asked(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_name_in_no_zone_is_refused() {
    let upstream = Upstream::new(&[Act::Answer(1)]);
    let house = House::new(vec![zone("cluster.local", 1, &upstream)], Limits::default());
    let outcome = house.get("xcluster.local").await;
    assert_eq!((outcome.rcode, ede_of(&outcome)), (rcode::REFUSED, Some(ede::PROHIBITED)));
    assert_eq!((outcome.source, outcome.zone, upstream.asked()), (Source::Refused, 0, 0));
    assert_eq!(house.get("a.cluster.local").await.zone, 1);
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn a28_a_query_without_rd_flies_alone_and_is_not_kept() {
    let upstream = Upstream::new(&[Act::Gated(1), Act::Gated(2), Act::Answer(3)]);
    let house = House::before(&upstream);
    let without = Answers::default();
    let miss = house.miss("www.example", 1, &without);
    assert!(house.resolver.submit(Miss { recursion_desired: false, ..miss }).is_ok());
    house.settle().await;
    let with = house.ask("www.example", 2);
    house.settle().await;
    assert_eq!(upstream.asked(), 2, "neither joins the other");
    upstream.gate.notify_one();
    house.settle().await;
    assert_eq!(octet(&one(&without)), Some(1));
    assert!(waits(&with));
    // What the first brought is not kept: a third asker joins the second.
    let third = house.ask("www.example", 3);
    house.settle().await;
    assert!(waits(&third));
    upstream.gate.notify_one();
    house.settle().await;
    assert_eq!((octet(&one(&with)), octet(&one(&third))), (Some(2), Some(2)));
    assert_eq!(house.get("www.example").await.source, Source::Hit);
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn g04_new_zones_and_limits_hold_from_the_next_query_on() {
    let (old, new) = (Upstream::new(&[Act::Gated(1)]), Upstream::new(&[Act::Answer(2)]));
    let house = House::before(&old);
    let under_way = house.ask("a.example", 1);
    house.settle().await;
    house.resolver.reconfigure(Zones::new([zone("example", 7, &new)]), Limits { in_flight: 2, ..Limits::default() });
    let next = house.get("b.example").await;
    assert_eq!((octet(&next), next.zone), (Some(2), 7));
    assert_eq!(house.get("www.other").await.rcode, rcode::REFUSED, "its zone is gone");
    let later = house.ask("a.example", 2);
    assert!(house.resolver.submit(house.miss("c.example", 3, &Answers::default())).is_err(), "two wait already");
    house.settle().await;
    old.gate.notify_one();
    house.settle().await;
    assert_eq!(octet(&one(&under_way)), Some(1), "flights end as they began");
    assert_eq!(octet(&one(&later)), Some(2), "and take nobody along who is in another zone now");
    assert_eq!((old.asked(), new.asked()), (1, 2));
    house.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn e21_g04_a_name_that_comes_into_another_zone_is_asked_there() {
    let (old, new) = (Upstream::new(&[Act::Answer(1)]), Upstream::new(&[Act::Answer(2)]));
    let house = House::before(&old);
    for name in ["www.corp.example", "www.example"] {
        assert_eq!(octet(&house.get(name).await), Some(1));
    }
    let limits = Limits::default();
    house.resolver.reconfigure(Zones::new([zone(".", 1, &old), zone("corp.example", 2, &new)]), limits);
    let moved = house.get("www.corp.example").await;
    assert_eq!((octet(&moved), moved.zone, moved.source), (Some(2), 2, Source::Miss));
    assert_eq!(house.get("www.example").await.source, Source::Hit, "all others stay");
    house.resolver.reconfigure(Zones::new([zone(".", 1, &old)]), limits);
    let back = house.get("www.corp.example").await;
    assert_eq!((octet(&back), back.zone, back.source), (Some(1), 1, Source::Miss));
}
