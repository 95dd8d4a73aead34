//! Chains of scripted upstreams.

use super::*;
use crate::upstream::{Reply, Transport};
use crate::wire::header::{Header, rcode};
use crate::wire::question::to_wire;
use futures_util::poll;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::sync::Semaphore;

/// Says what it is told to say, one after the other; then that it is down.
struct Script {
    /// RCODEs, with the number of answers.
    says: Mutex<VecDeque<(u16, u16)>>,
    asked: AtomicUsize,
    gate: Semaphore,
    condition: Condition,
}

impl Script {
    fn says(says: &[(u16, u16)]) -> Arc<Script> {
        Script::with(says, Condition::Well, Semaphore::MAX_PERMITS)
    }

    fn with(says: &[(u16, u16)], condition: Condition, permits: usize) -> Arc<Script> {
        let says = Mutex::new(says.iter().copied().collect());
        Arc::new(Script { says, asked: AtomicUsize::new(0), gate: Semaphore::new(permits), condition })
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

impl Exchange for Script {
    fn exchange<'a>(&'a self, query: Query<'a>, _: Instant) -> Exchanged<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Relaxed);
            let _permit = self.gate.acquire().await.unwrap();
            let Some((code, ancount)) = self.says.lock().unwrap().pop_front() else { return Err(Error::AllDown) };
            let mut message = query.message.to_vec();
            let flags = header::QR | code;
            Header { id: 7, flags, qdcount: 1, ancount, nscount: 0, arcount: 0 }.write(&mut message);
            let server = SocketAddr::from(([192, 0, 2, 1], 53)).into();
            Ok(Reply { message, server, transport: Transport::Udp, elapsed: Duration::ZERO })
        })
    }

    fn condition(&self) -> Condition {
        self.condition
    }
}

fn all(upstream: &Arc<Script>) -> Link {
    let upstream = Arc::clone(upstream) as Arc<dyn Exchange>;
    Link { upstream, from: None, except: Vec::new(), next: Codes::default(), bound: None }
}

fn message(name: &str) -> Vec<u8> {
    let mut message = vec![0; header::LEN];
    Header { id: 7, flags: header::RD, qdcount: 1, ancount: 0, nscount: 0, arcount: 0 }.write(&mut message);
    message.extend(to_wire(name));
    message.extend([0, 1, 0, 1]);
    message
}

/// The RCODE of what comes.
async fn ask(upstream: &Arc<dyn Exchange>, name: &str) -> Result<u16, String> {
    let message = message(name);
    let reply = upstream.exchange(Query { message: &message, opt_len: 0 }, Instant::now() + LINE).await;
    reply.map(|reply| Header::read(&reply.message).unwrap().rcode()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_first_way_that_is_for_the_name_is_asked() {
    let wire = |name: &str| Some(to_wire(name).into());
    for (name, expected) in [
        ("a.example", 0),
        ("x.A.Example", 0),
        ("b.a.example", 1),
        ("x.b.a.example", 1),
        ("xa.example", 1),
        ("example", 1),
        ("org", 2),
        (".", 2),
        ("x.c", 3),
        ("c", 2),
    ] {
        let scripts: [Arc<Script>; 3] = std::array::from_fn(|_| Script::says(&[(0, 1)]));
        let chain = chain(vec![
            Link { from: wire("a.example"), except: vec![to_wire("b.a.example").into()], ..all(&scripts[0]) },
            Link { from: wire("example"), ..all(&scripts[1]) },
            // What it is for is excepted, but for the name itself.
            Link { from: wire("c"), except: vec![to_wire("c").into()], ..all(&scripts[2]) },
            Link { except: vec![to_wire("c").into()], ..all(&scripts[2]) },
        ]);
        let said = ask(&chain, name).await;
        let asked: Vec<usize> = scripts.iter().map(|script| script.asked()).collect();
        if expected == 3 {
            assert_eq!(said, Err("no upstream server is configured for this name".to_owned()), "{name}");
            assert_eq!(asked, [0, 0, 0], "{name}");
        } else {
            assert_eq!(said, Ok(0), "{name}");
            assert_eq!(asked.iter().position(|&n| n == 1), Some(expected), "{name}: {asked:?}");
            assert_eq!(asked.iter().sum::<usize>(), 1, "{name}");
        }
    }
}

#[tokio::test]
async fn replies_that_are_listed_are_handed_on_and_the_last_one_counts() {
    const NX: (u16, u16) = (rcode::NXDOMAIN, 0);
    const SERVFAIL: (u16, u16) = (rcode::SERVFAIL, 0);
    let next = Codes::default().with(rcode::NXDOMAIN).with_nodata();
    let down = "no upstream server works".to_owned();
    for (first, second, expected, asked) in [
        (&[(0, 1)][..], &[NX][..], Ok(0), 0),
        (&[NX], &[(0, 1)], Ok(0), 1),
        (&[(0, 0)], &[NX], Ok(3), 1),
        (&[NX], &[(0, 0)], Ok(0), 1),
        (&[SERVFAIL], &[(0, 1)], Ok(2), 0),
        // A failure is no reply, and what another said is no answer to those who ask the second.
        (&[], &[(0, 1)], Err(down.clone()), 0),
        (&[NX], &[], Err(down), 1),
    ] {
        let (one, two) = (Script::says(first), Script::says(second));
        let both = chain(vec![Link { next, ..all(&one) }, Link { next, ..all(&two) }]);
        assert_eq!(ask(&both, "www.example").await, expected, "{first:?} {second:?}");
        assert_eq!((one.asked(), two.asked()), (1, asked), "{first:?} {second:?}");
    }
    // A way that is not for the name is no next one: the reply stands.
    let (one, two) = (Script::says(&[NX]), Script::says(&[(0, 1)]));
    let both = chain(vec![Link { next, ..all(&one) }, Link { from: Some(to_wire("org").into()), ..all(&two) }]);
    assert_eq!(ask(&both, "www.example").await, Ok(rcode::NXDOMAIN));
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_is_refused_at_once() {
    let tally = Arc::new(Tally::default());
    let script = Script::with(&[(0, 1); 4], Condition::Well, 0);
    let bound = Some(Arc::new(Bound::new(2, "example", Arc::clone(&tally))));
    let chain = chain(vec![Link { bound, ..all(&script) }]);
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(ask(&chain, "www"))).collect();
    for one in &mut waiting {
        assert!(poll!(one).is_pending());
    }
    let text = "2 queries wait for these upstream servers, the most that may";
    for refused in 1..=3 {
        assert_eq!(ask(&chain, "www").await, Err(text.to_owned()));
        assert_eq!((tally.rejected.get(), script.asked()), (refused, 2));
    }
    // One goes away, one is answered: their places are free, and no more than theirs.
    drop(waiting.pop());
    script.gate.add_permits(Semaphore::MAX_PERMITS);
    assert_eq!(ask(&chain, "www").await, Ok(0));
    assert_eq!(waiting.pop().unwrap().await, Ok(0));
    assert_eq!(ask(&chain, "www").await, Ok(0));
    assert_eq!(tally.rejected.get(), 3);
    let crowded = Error::Crowded { most: 2 };
    assert!(crowded.is_refusal() && !Error::AllDown.is_refusal() && !Error::Unserved.is_refusal());
}

#[tokio::test]
async fn a_chain_is_as_well_as_the_best_of_its_ways() {
    use Condition::{Down, Shaken, Well};
    for (one, two, expected) in [(Well, Down, Well), (Down, Shaken, Shaken), (Down, Down, Down)] {
        let (one, two) = (Script::with(&[], one, 0), Script::with(&[], two, 0));
        assert_eq!(chain(vec![all(&one), all(&two)]).condition(), expected);
    }
    assert_eq!(chain(Vec::new()).condition(), Well);
    assert!(ask(&chain(Vec::new()), "www").await.is_err());
}

#[tokio::test]
async fn one_way_for_everything_is_no_chain() {
    let script = Script::says(&[]);
    let plain: Arc<dyn Exchange> = script.clone();
    let next = Codes::default().with(rcode::NXDOMAIN);
    assert!(Arc::ptr_eq(&plain, &chain(vec![Link { next, ..all(&script) }])), "there is nobody to hand on to");
    let from = Some(to_wire("a").into());
    assert!(!Arc::ptr_eq(&plain, &chain(vec![Link { from, ..all(&script) }])));
    assert!(!Arc::ptr_eq(&plain, &chain(vec![Link { except: vec![to_wire("a").into()], ..all(&script) }])));
    let bound = Some(Arc::new(Bound::new(1, ".", Arc::default())));
    assert!(!Arc::ptr_eq(&plain, &chain(vec![Link { bound, ..all(&script) }])));
}
