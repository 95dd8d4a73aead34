//! The cache as the server runs it — store, resolver, front — between scripted upstreams and clients, in a world whose
//! time passes only when the scenario says so, or when somebody waits.
//!
//! Whatever a scenario looks at, every query that reaches an upstream and every answer that reaches a client is held
//! against what must always be true of it.

use super::file::{self, Answer, Asked as Count, Bounds, Flush, Scenario, Settings, Step, Under};
use super::script::Script;
use super::text::{Ask, Rcode, Span, absolute, expand};
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::serialize::binary::BinEncodable;
use nodens::cache::{Hot, Prefetch, Stale, Store, Ttls};
use nodens::config::{self, limits};
use nodens::observe::metrics::Metrics;
use nodens::observe::queries::{Label, Proto, Source};
use nodens::resolve::local::Answers;
use nodens::resolve::local::acl::Acl as AccessRules;
use nodens::resolve::local::balance::Balance;
use nodens::resolve::local::dns64::Dns64;
use nodens::resolve::local::hosts::Hosts;
use nodens::resolve::local::rewrite::Rewrites;
use nodens::resolve::local::template::Templates;
use nodens::resolve::{Before, Behind, Limits, Outcome, Resolver, Waiter, Zone, Zones};
use nodens::serve::client::Acl;
use nodens::serve::{Door, Front, Verdict, judge};
use nodens::sys::clock::{Clock, Moment};
use nodens::upstream::{Condition, Exchange};
use nodens::wire::reply::{self, Asked, Manner, OwnedAsked};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than any client waits; who has no answer by then gets none.
const TOO_LONG: Duration = Duration::from_secs(10);
/// In what steps time passes while somebody waits.
const TICK: Duration = Duration::from_millis(1);
/// What a TCP client is told about idle connections, in units of 100 ms.
const KEEPALIVE: u16 = 100;

/// What a client got.
struct Got {
    bytes: Vec<u8>,
    source: Source,
    zone: u16,
    at: Moment,
}

/// Where an answer arrives.
type Slot = Arc<Mutex<Option<Got>>>;

/// A client that waits.
struct Client {
    front: Arc<Front>,
    door: Arc<Door>,
    asked: OwnedAsked,
    clock: Clock,
    slot: Slot,
}

impl Waiter for Client {
    fn answer(self: Box<Self>, outcome: &Outcome) {
        let mut out = vec![0; 65_535 + 300];
        let len = self.front.write_outcome(outcome, &self.asked.get(), &self.door, &mut out).unwrap_or(0);
        out.truncate(len);
        let got = Got { bytes: out, source: outcome.source, zone: outcome.zone, at: self.clock.now() };
        assert!(self.slot.lock().unwrap().replace(got).is_none(), "answered twice");
    }
}

/// A question that was asked and waits for its answer.
struct Pending {
    ask: Ask,
    packet: Vec<u8>,
    asked_at: Moment,
    slot: Slot,
}

/// Everything.
pub struct World {
    nanos: Arc<AtomicU64>,
    clock: Clock,
    store: Arc<Store>,
    front: Arc<Front>,
    script: Arc<Script>,
    metrics: Arc<Metrics>,
    pending: BTreeMap<String, Vec<Pending>>,
    next_id: u16,
    /// The list of the UDP worker.
    hot: Hot,
}

impl World {
    /// Plays a scenario from beginning to end; tells what went otherwise than it says, and where.
    pub async fn play(scenario: Scenario) -> Result<(), String> {
        let mut world = World::new(&scenario.settings, scenario.upstream)?;
        for (n, step) in scenario.steps.iter().enumerate() {
            let result = world.step(step).await;
            let mut wrong = std::mem::take(&mut *world.script.wrong.lock().unwrap());
            wrong.extend(result.err());
            if !wrong.is_empty() {
                return Err(format!("step {}: {}", n + 1, wrong.join("\n")));
            }
        }
        if let Some(name) = world.pending.keys().next() {
            return Err(format!("nobody waits for the answer to {name:?}"));
        }
        match world.front.resolver.in_flight() {
            0 => Ok(()),
            n => Err(format!("at the end {n} lookups are still under way")),
        }
    }

    fn new(settings: &Settings, answers: BTreeMap<String, Vec<Answer>>) -> Result<World, String> {
        let nanos = Arc::new(AtomicU64::new(settings.uptime.0.as_nanos() as u64));
        let clock = Clock::Manual(Arc::clone(&nanos));
        let metrics = Metrics::new();
        let store = Arc::new(Store::new(settings.max_bytes));
        let script = Arc::new(Script::new(answers));
        let mut zones = Vec::new();
        for zone in &settings.zones {
            let range = |b: &Bounds, min: Duration, max: Duration| {
                let seconds = |span: Option<Span>, default: Duration| span.map_or(default, |s| s.0).as_secs() as u32;
                (seconds(b.min_ttl, min), seconds(b.max_ttl, max))
            };
            let ttls = Ttls {
                positive: range(&zone.positive, limits::MIN_TTL.default, limits::POSITIVE_MAX_TTL.default),
                negative: range(&zone.negative, limits::MIN_TTL.default, limits::NEGATIVE_MAX_TTL.default),
                failure: zone.failure_ttl.0,
                one: false,
            };
            let s = &zone.serve_stale;
            let stale = s.enabled.then_some(Stale {
                max_age: s.max_age.0,
                answer_ttl: s.answer_ttl.0.as_secs() as u32,
                client_wait: s.client_wait.0,
                recheck: s.recheck.0,
                prefer_positive: s.prefer_positive,
            });
            let p = &zone.prefetch;
            let prefetch = p.enabled.then_some(Prefetch { min_hits: p.min_hits, remaining: p.remaining });
            let (before, behind) = rules(&zone.names, &zone.rules)?;
            for name in &zone.names {
                let upstream = Arc::clone(&script) as Arc<dyn Exchange>;
                let label = metrics.zones.intern(name);
                let zone = Zone { stale, prefetch, ..Zone::new(&wire(name)?, label, upstream, ttls) };
                zones.push(Zone { before: before.clone(), behind: behind.clone(), ..zone });
            }
        }
        let (limits, zones) = (Limits::default(), Zones::new(zones));
        let resolver = Resolver::start(Arc::clone(&store), zones, limits, Arc::clone(&metrics), clock.clone());
        let front = Front::new(Arc::clone(&store), resolver, Arc::clone(&metrics), Acl::default(), Vec::new());
        let (front, pending) = (Arc::new(front), BTreeMap::new());
        Ok(World { nanos, clock, store, front, script, metrics, pending, next_id: 1, hot: Hot::default() })
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        if let Some(text) = &step.ask {
            for text in expand(text)? {
                let ask: Ask = text.parse()?;
                let pending = (0..step.askers.unwrap_or(1)).map(|i| self.ask(&ask, i as u32, step.behind)).collect();
                self.settle().await;
                match (&step.later, &step.gets) {
                    (Some(name), _) => drop(self.pending.insert(name.clone(), pending)),
                    (None, Some(gets)) => self.collect(pending, gets).await.map_err(|e| format!("{text}: {e}"))?,
                    (None, None) => {}
                }
            }
        }
        if let (Some(name), Some(gets)) = (&step.answer_to, &step.gets) {
            let pending = self.pending.remove(name).ok_or_else(|| format!("nothing was asked as {name:?}"))?;
            self.collect(pending, gets).await.map_err(|e| format!("answer to {name}: {e}"))?;
        }
        if let Some(Span(time)) = step.pass {
            self.pass(time).await;
        }
        match &step.flush {
            Some(Flush::All(_)) => self.store.flush_all(),
            Some(Flush::Some(Under::Name(name))) => drop(self.store.flush_name(&wire(name)?)),
            Some(Flush::Some(Under::Zone(name))) => drop(self.store.flush_zone(&wire(name)?)),
            None => {}
        }
        if let Some(is) = step.upstream_is {
            *self.script.condition.lock().unwrap() = match is {
                file::Is::Well => Condition::Well,
                file::Is::Shaken => Condition::Shaken,
                file::Is::Down => Condition::Down,
            };
        }
        let asked = self.script.asked.lock().unwrap();
        match &step.upstream_asked {
            Some(Count::Total(n)) if asked.values().sum::<usize>() != *n => {
                Err(format!("the upstream was asked {} times, not {n}: {asked:?}", asked.values().sum::<usize>()))
            }
            Some(Count::Each(each)) => each.iter().try_for_each(|(question, n)| {
                let times = asked.get(question).copied().unwrap_or(0);
                if times == *n {
                    Ok(())
                } else {
                    Err(format!("the upstream was asked for {question} {times} times, not {n}"))
                }
            }),
            _ => Ok(()),
        }
    }

    /// Sends one client's query, and answers at once what needs no upstream.
    fn ask(&mut self, ask: &Ask, client: u32, behind: Option<Span>) -> Pending {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let packet = ask.message(id).to_vec().unwrap();
        let now = self.clock.now();
        let read_at = Moment(now.0 - behind.map_or(0, |b| b.0.as_nanos() as u64));
        let slot = Slot::default();
        let mut out = vec![0; 65_535 + 300];
        let write = |q| {
            if ask.tcp {
                Asked::over_tcp(q, KEEPALIVE, Manner::default())
            } else {
                Asked::over_udp(q, Manner::default())
            }
        };
        // Over UDP a worker's own list stands before the store, over TCP it does not.
        let (store, hot) = (&self.front.store, &mut self.hot);
        let door = self.front.door((Ipv4Addr::LOCALHOST, 53).into());
        let verdict = judge(&packet, door.view(), |question, flags| match ask.tcp {
            true => store.get(&store.key(question, flags), read_at),
            false => hot.get(store, &store.key(question, flags), read_at).cloned(),
        });
        let (len, source, zone) = match verdict {
            Verdict::Hit(query, entry) => {
                let source = if entry.about().negative { Source::NegativeHit } else { Source::Hit };
                let len = self.front.write_hit(&entry, &write(&query), &door, read_at, &mut out);
                (len, source, entry.about().zone)
            }
            Verdict::Bare(header, code) => (reply::bare(&header, code, &mut out), Source::Local, 0),
            Verdict::Decline(query, code) => {
                (self.front.write_refusal(&write(&query), code, &mut out), Source::Local, 0)
            }
            Verdict::Drop(_) => (None, Source::Local, 0),
            Verdict::Miss(query) => {
                let asked = OwnedAsked::from(write(&query));
                let waiter = Client {
                    front: Arc::clone(&self.front),
                    door: Arc::clone(&door),
                    asked,
                    clock: self.clock.clone(),
                    slot: Arc::clone(&slot),
                };
                let proto = if ask.tcp { Proto::Tcp } else { Proto::Udp };
                let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + client);
                self.front.submit(&query, (address, 5353).into(), (&door, proto), read_at, Box::new(waiter));
                return Pending { ask: ask.clone(), packet, asked_at: now, slot };
            }
        };
        if let Some(len) = len {
            out.truncate(len);
            *slot.lock().unwrap() = Some(Got { bytes: out, source, zone, at: now });
        }
        Pending { ask: ask.clone(), packet, asked_at: now, slot }
    }

    /// Waits until all are answered, and looks at the answers.
    async fn collect(&mut self, pending: Vec<Pending>, gets: &file::Gets) -> Result<(), String> {
        for p in pending {
            let mut waited = Duration::ZERO;
            let got = loop {
                if let Some(got) = p.slot.lock().unwrap().take() {
                    break got;
                }
                if waited >= TOO_LONG {
                    return Err("no answer came".into());
                }
                self.tick().await;
                waited += TICK;
            };
            self.check(&p, &got, gets)?;
        }
        Ok(())
    }

    fn check(&self, p: &Pending, got: &Got, gets: &file::Gets) -> Result<(), String> {
        let message = Message::from_vec(&got.bytes).map_err(|e| format!("hickory-proto cannot read it: {e}"))?;
        let mut wrong = always(p, &got.bytes, &message);
        let mut differ = |what: &str, got: &dyn ToString, wanted: &dyn ToString| {
            let (got, wanted) = (got.to_string(), wanted.to_string());
            if got != wanted {
                wrong.push(format!("{what}: {got}, not {wanted}"));
            }
        };
        differ("rcode", &Rcode(message.metadata.response_code.into()), &gets.rcode);
        let sections = [
            ("answer", &message.answers, &gets.answer),
            ("authority", &message.authorities, &gets.authority),
            ("additional", &message.additionals, &gets.additional),
        ];
        for (what, got, wanted) in sections {
            if let Some(wanted) = wanted
                && !same(&wanted.0, got)
            {
                let (got, wanted) = (lines(got), lines(&wanted.0));
                differ(what, &got, &if got == wanted { "the same with other octets".into() } else { wanted });
            }
        }
        if let Some(n) = gets.answers {
            differ("records in the answer section", &message.answers.len(), &n);
        }
        if let Some(flags) = &gets.flags {
            let mut flags = flags.clone();
            flags.sort();
            differ("flags", &format!("{:?}", flags_of(&message)), &format!("{flags:?}"));
        }
        match &gets.ede {
            Some(file::Ede::Code(code)) => differ("ede", &code_of(&message), code),
            Some(file::Ede::None(_)) => differ("ede", &code_of(&message), &"none"),
            None => {}
        }
        if let Some(source) = &gets.source {
            differ("source", &got.source.name(), source);
        }
        if let Some(zone) = &gets.zone {
            differ("zone", &self.metrics.zones.name(got.zone), zone);
        }
        if let Some(Span(took)) = gets.took {
            differ("took", &format!("{:?}", got.at.since(p.asked_at)), &format!("{took:?}"));
        }
        if let Some(most) = gets.at_most
            && got.bytes.len() > most
        {
            differ("octets", &got.bytes.len(), &format!("at most {most}"));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let why = ede(&message).map_or(String::new(), |(code, text)| format!("extended error {code}: {text}\n"));
        Err(format!("{}\nThe client got: {message}{why}", wrong.join("\n")))
    }

    /// Lets everything run that needs no time.
    async fn settle(&self) {
        let mut quiet = 0;
        let mut last = (0, 0, 0);
        // Sixteen rounds in which nothing moved: no chain of wake-ups in here is that long.
        while quiet < 16 {
            tokio::task::yield_now().await;
            let resolver = &self.front.resolver;
            let state = (resolver.in_flight(), resolver.flights(), self.metrics.coalesced.get());
            quiet = if state == last { quiet + 1 } else { 0 };
            last = state;
        }
    }

    async fn tick(&self) {
        self.nanos.fetch_add(TICK.as_nanos() as u64, Ordering::Relaxed);
        tokio::time::advance(TICK).await;
        self.settle().await;
    }

    /// Lets time pass: bit by bit while somebody waits, at once otherwise.
    async fn pass(&self, time: Duration) {
        let end = self.clock.now() + time;
        while self.front.resolver.flights() > 0 && self.clock.now() < end {
            self.tick().await;
        }
        let left = end.since(self.clock.now());
        self.nanos.fetch_add(left.as_nanos() as u64, Ordering::Relaxed);
        tokio::time::advance(left).await;
        self.settle().await;
    }
}

/// What is wrong with an answer whatever was expected of it.
fn always(p: &Pending, bytes: &[u8], message: &Message) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |what: &str, holds: bool| {
        if !holds {
            wrong.push(format!("an answer must {what}"));
        }
    };
    let (asked, meta) = (Message::from_vec(&p.packet).unwrap(), &message.metadata);
    must("be a response", meta.message_type == MessageType::Response && meta.op_code == OpCode::Query);
    must("have the id of its query", meta.id == asked.metadata.id);
    must(
        "give back RD and CD",
        meta.recursion_desired == p.ask.recursion && meta.checking_disabled == p.ask.checking_disabled,
    );
    must("say that recursion is available", meta.recursion_available);
    must("have AD and Z clear", bytes[3] & 0x60 == 0);
    let question = 12..12 + asked.queries[0].to_bytes().unwrap().len();
    must("repeat the question octet for octet", bytes.get(question.clone()) == p.packet.get(question));
    let limit = if p.ask.tcp { 65_535 } else { usize::from(p.ask.size.unwrap_or(512).clamp(512, 1232)) };
    must(&format!("fit into {limit} octets; this has {}", bytes.len()), bytes.len() <= limit);
    must("have an OPT if the query has one, and only then", message.edns.is_some() == p.ask.size.is_some());
    if let Some(edns) = &message.edns {
        must("copy DO", edns.flags().dnssec_ok == p.ask.dnssec);
        must("be of EDNS version 0", edns.version() == 0);
        let ours = edns.options().as_ref().iter().all(|(code, _)| u16::from(*code) == 15);
        must("carry no option but an extended error", ours);
    }
    wrong
}

fn flags_of(message: &Message) -> Vec<file::Flag> {
    use file::Flag::{Aa, Ad, Cd, Ra, Rd, Tc};
    let m = &message.metadata;
    [
        (Aa, m.authoritative),
        (Tc, m.truncation),
        (Rd, m.recursion_desired),
        (Ra, m.recursion_available),
        (Ad, m.authentic_data),
        (Cd, m.checking_disabled),
    ]
    .into_iter()
    .filter_map(|(flag, set)| set.then_some(flag))
    .collect()
}

/// The code of an answer's extended error, in words.
fn code_of(message: &Message) -> String {
    ede(message).map_or("none".into(), |(code, _)| code.to_string())
}

/// The extended error of an answer: code and text.
fn ede(message: &Message) -> Option<(u16, String)> {
    message.edns.as_ref()?.options().as_ref().iter().find_map(|(_, option)| match option {
        EdnsOption::Unknown(15, data) => {
            let (code, text) = data.split_first_chunk()?;
            Some((u16::from_be_bytes(*code), String::from_utf8_lossy(text).into_owned()))
        }
        _ => None,
    })
}

/// Are these the same records in the same order? hickory-proto leaves the TTL out when it compares.
fn same(a: &[Record], b: &[Record]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b && a.ttl == b.ttl)
}

fn lines(records: &[Record]) -> String {
    if records.is_empty() {
        return "nothing".into();
    }
    records.iter().map(|r| format!("\n    {r}")).collect()
}

/// A name as on the wire, lower-case.
fn wire(name: &str) -> Result<Vec<u8>, String> {
    absolute(name)?.to_lowercase().to_bytes().map_err(|e| e.to_string())
}

/// Those before a cache, and those behind it.
type Rules = (Option<Arc<Before>>, Option<Arc<Behind>>);

/// The rules before and behind the cache that these keys of a zone stand for.
fn rules(names: &[String], keys: &yaml_serde::Mapping) -> Result<Rules, String> {
    if keys.is_empty() {
        return Ok((None, None));
    }
    // Of JSON too YAML is made.
    let keys = serde_json::to_string(keys).map_err(|e| e.to_string())?;
    let rest = keys.strip_prefix('{').ok_or("no keys")?;
    let text = format!("{{\"zones\": [{{\"match\": {names:?}, \"forward\": {{\"to\": [\"192.0.2.53\"]}}, {rest}]}}");
    let loaded = config::load_str("rules", &text).map_err(|problems| problems.to_string())?;
    let zone = &loaded.config.zones[0];
    let before = Before {
        acl: Some(AccessRules::new(&zone.acl)),
        refuse_any: zone.refuse_any,
        whoami: zone.whoami,
        dns64: zone.dns64.map(Dns64::new),
        balance: zone.load_balance.as_ref().map(|rule| Arc::new(Balance::new(rule))),
    };
    let rewrites = Rewrites::new(&zone.rewrite).map_err(|e| e.to_string())?;
    let templates = Templates::new(&zone.respond, Arc::default()).map_err(|e| e.to_string())?;
    let mut answers: Vec<Arc<dyn Answers>> = vec![Arc::new(templates)];
    answers.extend(zone.hosts.as_ref().map(|hosts| Arc::new(Hosts::new(hosts)) as Arc<dyn Answers>));
    let behind = Behind { rewrites: Some(rewrites), minimal: zone.minimal_responses, answers };
    Ok((Some(Arc::new(before)), Some(Arc::new(behind))))
}
