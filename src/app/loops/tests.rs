//! Row D23: upstreams that send our own questions back, scripted on loopback sockets, and how often they are looked for.

use super::*;
use crate::upstream::{Error, Group, Options, Protocol};
use crate::wire::header;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use tokio::net::UdpSocket;

/// Who brings probes back.
const FORWARDER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 10));

/// What a scripted server does with a query.
#[derive(Clone, Copy)]
enum Act {
    /// Says that the name does not exist.
    Answer,
    /// Asks us, and passes our refusal on.
    Loop,
    /// The same for names below `arpa`; answers others.
    LoopForArpa,
    /// Asks us, and somebody else when we refuse.
    LoopAndAnswer,
    /// Says nothing.
    Silence,
}

/// A server over UDP, for ever.
struct Script {
    address: SocketAddr,
    act: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Script {
    async fn start(act: Act, probes: &Arc<Probes>) -> Script {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let script = Script {
            address: socket.local_addr().unwrap(),
            act: Arc::new(AtomicU8::new(act as u8)),
            asked: Arc::default(),
        };
        let (act, asked, probes) = (Arc::clone(&script.act), Arc::clone(&script.asked), Arc::clone(probes));
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                asked.fetch_add(1, SeqCst);
                let query = &buffer[..length];
                let name = &query[header::LEN..length - OPT_LEN - 4];
                let act = act.load(SeqCst);
                let asks_us = act == Act::Loop as u8
                    || act == Act::LoopAndAnswer as u8
                    || (act == Act::LoopForArpa as u8 && name.ends_with(b"\x04arpa\x00"));
                let heard = asks_us && probes.heard(name, FORWARDER);
                assert_eq!(heard, asks_us && name.len() > 33, "only probes are heard");
                let code = match asks_us && act != Act::LoopAndAnswer as u8 {
                    true => rcode::REFUSED,
                    false => rcode::NXDOMAIN,
                };
                if act == Act::Silence as u8 {
                    continue;
                }
                let mut reply = query[..length - OPT_LEN].to_vec();
                let head = Header::read(query).unwrap();
                Header { flags: head.flags | header::QR | code, arcount: 0, ..head }.write(&mut reply);
                socket.send_to(&reply, peer).await.unwrap();
            }
        });
        script
    }

    fn set(&self, act: Act) {
        self.act.store(act as u8, SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

fn group(servers: &[&Script]) -> Arc<Group> {
    let options = Options { protocol: Protocol::Udp, ..Options::default() };
    let servers: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    Arc::new(Group::new(options, &servers))
}

/// The routes of one group, one for each of `zones`.
fn routes(group: &Arc<Group>, zones: &[&str]) -> Vec<(Arc<str>, Arc<Route>)> {
    zones.iter().map(|zone| (Arc::from(*zone), Arc::new(Route::new(Arc::clone(group))))).collect()
}

/// What is being tested, and what it is given.
#[derive(Default)]
struct House {
    watches: Watches,
    probes: Arc<Probes>,
    detected: Counter,
}

impl House {
    /// A round in which everybody is due.
    async fn round(&mut self, routes: &[Vec<(Arc<str>, Arc<Route>)>]) -> Vec<String> {
        let now = Instant::now();
        self.watches.follow(routes, now);
        self.watches.0.values_mut().for_each(|watch| watch.due = now);
        self.watches.round(&self.probes, &self.detected, 0).await
    }
}

/// Asks for a short name by `route`; the RCODE.
async fn ask(route: &Route) -> Result<u16, Error> {
    let question = crate::wire::question::Question::new(&to_wire("web.example"), 1, 1).unwrap();
    let message = reply::upstream_query(question.as_bytes(), true, false, false);
    let query = Query { message: &message, opt_len: OPT_LEN };
    let reply = route.exchange(query, Instant::now() + PATIENCE).await?;
    Ok(Header::read(&reply.message).unwrap().rcode())
}

#[tokio::test]
async fn d23_a_server_that_sends_queries_back_is_not_asked_until_it_does_not() {
    let mut house = House::default();
    let server = Script::start(Act::Loop, &house.probes).await;
    let routes = [routes(&group(&[&server]), &["."])];
    let route = Arc::clone(&routes[0][0].1);
    let said = house.round(&routes).await;
    let expected = format!(
        "queries for \".\" sent to {} come back to nodens from 10.0.0.10: that server, or one that it asks, forwards to this \
         cache; it is not asked for these any more until that has ended. Have it forward elsewhere (often the resolv.conf \
         that it reads names this cache), or take it out of forward.to",
        server.address
    );
    assert_eq!(said, [expected]);
    assert_eq!((house.detected.get(), route.condition()), (1, Condition::Down));
    let asked = server.asked();
    for _ in 0..100 {
        let error = ask(&route).await.unwrap_err();
        assert!(error.to_string().starts_with("forwarding loop: upstream 127.0.0.1:"), "{error}");
    }
    assert_eq!(server.asked(), asked, "fails without a query");
    assert_eq!(house.round(&routes).await, [""; 0], "the same loop is told of once");
    assert_eq!((house.detected.get(), server.asked()), (1, asked + 1));
    server.set(Act::Answer);
    house.round(&routes).await;
    assert_eq!(route.condition(), Condition::Well);
    assert_eq!(ask(&route).await.unwrap(), rcode::NXDOMAIN);
    server.set(Act::Loop);
    house.round(&routes).await;
    assert_eq!((house.detected.get(), route.condition()), (2, Condition::Down), "and once more");
}

#[tokio::test]
async fn d23_the_other_servers_of_the_group_are_asked_instead() {
    let mut house = House::default();
    let looping = Script::start(Act::Loop, &house.probes).await;
    let good = Script::start(Act::Answer, &house.probes).await;
    let routes = [routes(&group(&[&looping, &good]), &["."])];
    assert_eq!(house.round(&routes).await.len(), 1);
    let (before, route) = (looping.asked(), &routes[0][0].1);
    for _ in 0..20 {
        assert_eq!(ask(route).await.unwrap(), rcode::NXDOMAIN);
    }
    assert_eq!((looping.asked(), route.condition()), (before, Condition::Well));
}

#[tokio::test]
async fn d23_a_server_that_loops_for_one_zone_is_asked_for_the_others() {
    let mut house = House::default();
    let server = Script::start(Act::LoopForArpa, &house.probes).await;
    let routes = [routes(&group(&[&server]), &["cluster.local", "in-addr.arpa", "ip6.arpa"])];
    let said = house.round(&routes).await;
    assert_eq!(said.len(), 1, "one server, one line: {said:?}");
    assert!(said[0].contains("\"in-addr.arpa\"") && said[0].contains("\"ip6.arpa\""), "{said:?}");
    assert!(!said[0].contains("cluster.local"), "{said:?}");
    let conditions: Vec<Condition> = routes[0].iter().map(|(_, route)| route.condition()).collect();
    assert_eq!(conditions, [Condition::Well, Condition::Down, Condition::Down]);
    assert_eq!(ask(&routes[0][0].1).await.unwrap(), rcode::NXDOMAIN);
}

#[tokio::test]
async fn d23_a_server_that_has_others_to_ask_is_told_of_and_still_used() {
    let mut house = House::default();
    let server = Script::start(Act::LoopAndAnswer, &house.probes).await;
    let routes = [routes(&group(&[&server]), &["."])];
    let said = house.round(&routes).await;
    assert!(said.len() == 1 && said[0].contains("it has an answer all the same, and is still asked"), "{said:?}");
    assert_eq!((house.detected.get(), routes[0][0].1.condition()), (1, Condition::Well));
    assert_eq!(ask(&routes[0][0].1).await.unwrap(), rcode::NXDOMAIN);
}

#[tokio::test]
async fn d20_d23_new_servers_are_probed_and_what_is_known_of_gone_ones_is_forgotten() {
    let mut house = House::default();
    let first = Script::start(Act::Loop, &house.probes).await;
    let second = Script::start(Act::Loop, &house.probes).await;
    let group = group(&[&first]);
    let routes = [routes(&group, &["."])];
    let route = &routes[0][0].1;
    house.round(&routes).await;
    let gone = group.servers()[0].clone();
    assert!(route.is_looping(&gone));
    group.set_servers(&[second.address]);
    let now = Instant::now();
    house.watches.follow(&routes, now);
    assert!(!route.is_looping(&gone));
    assert_eq!((route.condition(), house.watches.0.len()), (Condition::Well, 1));
    assert!(house.watches.0.values().all(|watch| watch.is_due(now, 0)), "at once");
    assert_eq!(house.watches.round(&house.probes, &house.detected, 0).await.len(), 1);
    assert!(route.is_looping(&group.servers()[0]));
    house.watches.follow(&[], now);
    assert!(house.watches.0.is_empty() && !route.is_looping(&group.servers()[0]));
}

#[tokio::test(start_paused = true)]
async fn d23_a_silent_server_is_no_loop_and_not_waited_for_for_long() {
    let mut house = House::default();
    let server = Script::start(Act::Silence, &house.probes).await;
    let routes = [routes(&group(&[&server]), &["."])];
    let begin = Instant::now();
    assert_eq!(house.round(&routes).await, [""; 0]);
    assert!(begin.elapsed() >= PATIENCE && begin.elapsed() < PATIENCE * 2, "{:?}", begin.elapsed());
    assert_eq!((house.detected.get(), routes[0][0].1.condition()), (0, Condition::Well));
}

/// When a watch is due again, in seconds: whatever happens, and if its group is not well.
fn pauses(watch: &mut Watch, finding: Finding, jitter: f64) -> (u64, u64) {
    let now = Instant::now();
    watch.note(finding, now, jitter);
    ((watch.due - now).as_secs(), (watch.soon - now).as_secs())
}

#[tokio::test(start_paused = true)]
async fn d23_servers_are_probed_twice_then_every_ten_minutes_and_more_often_when_they_loop() {
    let mut house = House::default();
    let server = Script::start(Act::Answer, &house.probes).await;
    let fine = Finding { from: None, code: Some(rcode::NXDOMAIN) };
    let loops = Finding { from: Some(FORWARDER), code: Some(rcode::REFUSED) };
    for (zones, factor) in [(1, 1), (8, 1), (9, 2), (300, 38)] {
        let names: Vec<String> = (0..zones).map(|n| format!("z{n}.example")).collect();
        let routes = [routes(&group(&[&server]), &names.iter().map(String::as_str).collect::<Vec<_>>())];
        house.watches.follow(&routes, Instant::now());
        assert_eq!(house.watches.0.len(), zones);
        let watch = house.watches.0.values_mut().next().unwrap();
        let silent = Finding { from: None, code: None };
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(pauses(watch, silent, 0.5), (pause * factor, 30 * factor), "until it has replied");
        }
        assert_eq!(pauses(watch, fine, 0.5), (30 * factor, 30 * factor), "the first time");
        assert_eq!(pauses(watch, fine, 0.5), (600 * factor, 30 * factor), "then");
        assert_eq!(pauses(watch, silent, 0.5), (600 * factor, 30 * factor), "its group sees to that");
        assert_eq!(pauses(watch, fine, 0.0), (450 * factor, (45 * factor) / 2), "at the earliest");
        assert_eq!(pauses(watch, fine, 1.0), (750 * factor, (75 * factor) / 2), "at the latest");
        assert_eq!(pauses(watch, loops, 0.5), (30 * factor, 30 * factor), "while it loops");
        assert_eq!(pauses(watch, fine, 0.5), (600 * factor, 30 * factor), "when that is over");
    }
}

#[tokio::test]
async fn d23_a_group_that_is_not_well_is_looked_at_soon_and_few_at_a_time() {
    let mut house = House::default();
    let server = Script::start(Act::Answer, &house.probes).await;
    let names: Vec<String> = (0..20).map(|n| format!("z{n}.example")).collect();
    let routes = [routes(&group(&[&server]), &names.iter().map(String::as_str).collect::<Vec<_>>())];
    house.watches.follow(&routes, Instant::now());
    for sent in [8, 16, 20, 20] {
        house.watches.round(&house.probes, &house.detected, 0).await;
        assert_eq!(server.asked(), sent, "the longest overdue first, eight at a time");
    }
    let watch = house.watches.0.values_mut().next().unwrap();
    let now = Instant::now();
    watch.note(Finding { from: None, code: Some(rcode::NXDOMAIN) }, now, 0.5);
    let soon = now + SOON * 3;
    assert!(!watch.is_due(soon, 0), "all is well");
    // In a loop, what is slow is given stale, comes back, and looks like new: all seems to be well.
    let (now, stale) = (soon, 3);
    assert!(watch.is_due(soon, stale) && !watch.is_due(soon - Duration::from_millis(1), stale));
    watch.stale = stale;
    watch.note(Finding { from: None, code: Some(rcode::NXDOMAIN) }, now, 0.5);
    let soon = now + SOON * 3;
    assert!(!watch.is_due(soon, stale), "none since");
    // All of its servers loop: that is not being well.
    watch.route.mark(&watch.server, true);
    assert!(watch.is_due(soon, stale) && !watch.is_due(soon - Duration::from_millis(1), stale));
}

#[tokio::test(start_paused = true)]
async fn d23_one_loop_is_told_of_every_ten_minutes_at_most() {
    let mut house = House::default();
    let server = Script::start(Act::Answer, &house.probes).await;
    let routes = [routes(&group(&[&server]), &["."])];
    house.watches.follow(&routes, Instant::now());
    let watch = house.watches.0.values_mut().next().unwrap();
    let now = Instant::now();
    let mut told = Vec::new();
    // It comes and goes, once a minute.
    for second in (0..1800).step_by(30) {
        let from = (second % 60 == 0).then_some(FORWARDER);
        if watch.note(Finding { from, code: None }, now + Duration::from_secs(second), 0.5) {
            told.push(second);
        }
    }
    assert_eq!(told, [0, 600, 1200]);
}
