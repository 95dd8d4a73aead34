//! Row G15 of the behaviour table: a long time under load, in which upstreams restart, stop and vanish, the configuration is
//! reloaded and TCP clients come and go; memory, descriptors, threads and slow answers must not grow, and no answer may be
//! wrong.
//!
//! `NODENS_SOAK` says for how long (`8s` when it is not set, `10m`, `24h`), `NODENS_SOAK_RATE` how many queries a second.
//! Times of answers are only compared with those of the same run, and generously: who else uses the machine is not known.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a test that says how it went")]

mod support;
mod world;

use rand::RngExt;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::server::{Server, forward_to};
use support::{free_port, proc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{MissedTickBehavior, interval, timeout};
use world::namespace::tool_path;

/// Clients over UDP, each an address of its own.
const CLIENTS: u8 = 50;
/// Names that are asked for all the time.
const HOT: u64 = 200;
/// After this a client has given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long after the upstreams are back, names that nobody has asked for before may still fail.
const GRACE: Duration = Duration::from_secs(3);
/// A round of all that happens, if there is time.
const ROUND: Duration = Duration::from_secs(20);
/// What memory may seem to grow by, beside a tenth: the allocator's business.
const SLACK: f64 = (6 << 20) as f64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One of a few names, always known.
    Hot,
    /// A name never asked for before.
    Unique,
    /// One of many names that do not exist.
    Missing,
}

/// A name and what is true of it.
#[derive(Clone)]
struct Asked {
    kind: Kind,
    name: String,
    sent: Instant,
}

impl Asked {
    fn new(hot_only: bool, number: &AtomicU64) -> Asked {
        let mut random = rand::rng();
        let (kind, name) = match random.random_range(0..10) {
            0..=6 => (Kind::Hot, format!("hot{}.soak.example", random.random_range(0..HOT))),
            _ if hot_only => (Kind::Hot, format!("hot{}.soak.example", random.random_range(0..HOT))),
            7..=8 => (Kind::Unique, format!("u{}.soak.example", number.fetch_add(1, Relaxed))),
            _ => (Kind::Missing, format!("nx-{}.soak.example", random.random_range(0..1000))),
        };
        Asked { kind, name, sent: Instant::now() }
    }

    fn query(&self, id: u16) -> Vec<u8> {
        let mut packet = [id.to_be_bytes(), [1, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
        for label in self.name.split('.') {
            packet.push(label.len() as u8);
            packet.extend(label.bytes());
        }
        packet.extend([0, 0, 1, 0, 1]);
        packet
    }

    fn judge(&self, reply: &[u8]) -> Verdict {
        let question = self.query(0).split_off(12);
        if reply.get(12..12 + question.len()) != Some(&question[..]) {
            return Verdict::Wrong;
        }
        match (reply[3] & 15, self.kind) {
            (0, Kind::Hot | Kind::Unique) => {
                // FNV-1a, as the tool `upstream` has it.
                let name = self.name.bytes().chain([b'.']);
                let hash =
                    name.fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
                let address = (0x0a00_0000 | hash >> 8).to_be_bytes();
                let right = reply[6..8] == [0, 1] && reply.ends_with(&address);
                if right { Verdict::Right } else { Verdict::Wrong }
            }
            (3, Kind::Missing) => Verdict::Right,
            (0 | 3, _) => Verdict::Wrong,
            _ => Verdict::Failed,
        }
    }
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    Failed,
    Lost,
}

/// What happened in a stretch of time.
#[derive(Default)]
struct Window {
    /// How long answers took, in microseconds, while the upstreams were there.
    took: Vec<u32>,
    right: u64,
    excused: u64,
    /// What must not be.
    bad: Vec<String>,
}

/// What all tasks share.
struct Shared {
    server: SocketAddr,
    number: AtomicU64,
    stop: AtomicBool,
    /// When upstreams were away; the last may not have ended.
    away: Mutex<Vec<(Instant, Option<Instant>)>>,
    window: Mutex<Window>,
}

impl Shared {
    fn note(&self, asked: &Asked, verdict: Verdict) {
        let now = Instant::now();
        let excused = self.is_excused(asked.sent, now);
        let mut window = self.window.lock().unwrap();
        match verdict {
            Verdict::Right => {
                window.right += 1;
                if !excused {
                    window.took.push(u32::try_from((now - asked.sent).as_micros()).unwrap());
                }
            }
            Verdict::Failed | Verdict::Lost if excused && asked.kind != Kind::Hot => window.excused += 1,
            _ => window.bad.push(format!("{} {:?} ({:?}, {excused})", asked.name, verdict, now - asked.sent)),
        }
    }

    /// Were upstreams away in this time, or just before it?
    fn is_excused(&self, from: Instant, to: Instant) -> bool {
        let overlaps =
            |&(begin, end): &(Instant, Option<Instant>)| to >= begin && end.is_none_or(|end| from <= end + GRACE);
        self.away.lock().unwrap().iter().rev().take(2).any(overlaps)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// A client over UDP.
async fn over_udp(shared: Arc<Shared>, client: u8, each: Duration) {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 3, client + 1), 0)).await.unwrap();
    socket.connect(shared.server).await.unwrap();
    tokio::time::sleep(each * u32::from(client) / u32::from(CLIENTS)).await;
    let (mut ticks, mut looks) = (interval(each), interval(PATIENCE / 10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: HashMap<u16, Asked> = HashMap::new();
    let mut room = [0; 4096];
    let mut id = 0_u16;
    while !(shared.stopped() && waiting.is_empty()) {
        tokio::select! {
            _ = ticks.tick(), if !shared.stopped() => {
                id = id.wrapping_add(1);
                let asked = Asked::new(false, &shared.number);
                let _ = socket.send(&asked.query(id)).await;
                waiting.insert(id, asked);
            }
            received = socket.recv(&mut room) => {
                let reply = &room[..received.unwrap()];
                // An answer to what was given up is nobody's.
                let asked = waiting.remove(&u16::from_be_bytes([reply[0], reply[1]]));
                asked.into_iter().for_each(|asked| shared.note(&asked, asked.judge(reply)));
            }
            _ = looks.tick() => {
                for (_, asked) in waiting.extract_if(|_, asked| asked.sent.elapsed() > PATIENCE) {
                    shared.note(&asked, Verdict::Lost);
                }
            }
        }
    }
}

/// Clients over TCP: they connect, ask a few times, and go, now and then with a reset.
async fn over_tcp(shared: Arc<Shared>, client: u8, each: Duration) {
    let mut ticks = interval(each);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.stopped() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 4, client + 1), 0).into()).unwrap();
        let mut stream = socket.connect(shared.server).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for id in 0..rand::random_range(1..20) {
            ticks.tick().await;
            let asked = Asked::new(true, &shared.number);
            let exchange = async {
                stream.write_all(&support::framed(&asked.query(id))).await?;
                let length = stream.read_u16().await?;
                let mut reply = vec![0; usize::from(length)];
                stream.read_exact(&mut reply).await?;
                std::io::Result::Ok(reply)
            };
            let verdict = match timeout(PATIENCE, exchange).await {
                Ok(Ok(reply)) if reply.starts_with(&id.to_be_bytes()) => asked.judge(&reply),
                Ok(Ok(_)) => Verdict::Wrong,
                _ => Verdict::Lost,
            };
            shared.note(&asked, verdict);
            if verdict == Verdict::Lost {
                break;
            }
        }
        if rand::random() {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

/// An upstream that can be stopped, killed and started again.
struct Restartable {
    address: SocketAddr,
    process: Child,
}

impl Restartable {
    fn start(address: SocketAddr) -> Restartable {
        let mut command = Command::new(tool_path());
        command.args(["upstream", "--ttl=2", &address.to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "serving\n");
        Restartable { address, process }
    }

    fn signal(&self, name: &str) {
        world::guardian::signal(self.process.id(), name);
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn restart(&mut self) {
        self.kill();
        *self = Restartable::start(self.address);
    }
}

impl Drop for Restartable {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All that happens to upstreams and the configuration while there is time.
fn trouble(shared: &Shared, server: &Server, upstreams: &mut [Restartable; 2], config: &dyn Fn(u64) -> String) {
    let round = ROUND.min(total());
    let wait = |share: f64| {
        let end = Instant::now() + round.mul_f64(share);
        while Instant::now() < end && !shared.stopped() {
            sleep(Duration::from_millis(20));
        }
    };
    for number in 0.. {
        for upstream in &mut *upstreams {
            wait(0.15);
            if shared.stopped() {
                return;
            }
            upstream.kill();
            wait(0.03);
            upstream.restart();
        }
        server.rewrite(&config(number));
        server.signal("HUP");
        wait(0.1);
        if shared.stopped() {
            return;
        }
        shared.away.lock().unwrap().push((Instant::now(), None));
        if number % 2 == 0 {
            upstreams.iter().for_each(|upstream| upstream.signal("STOP"));
            wait(0.25);
            upstreams.iter().for_each(|upstream| upstream.signal("CONT"));
        } else {
            upstreams.iter_mut().for_each(Restartable::kill);
            wait(0.25);
            upstreams.iter_mut().for_each(Restartable::restart);
        }
        shared.away.lock().unwrap().last_mut().unwrap().1 = Some(Instant::now());
        wait(0.29);
    }
}

/// What the process has at the end of a window, and how it went.
struct Sample {
    at: f64,
    /// Were the upstreams there?
    calm: bool,
    memory: f64,
    files: f64,
    threads: f64,
    /// In microseconds, of what was asked while the upstreams were there.
    p999: Option<f64>,
    right: u64,
    excused: u64,
}

fn sample(begin: Instant, pid: u32, calm: bool, window: &mut Window) -> Sample {
    window.took.sort_unstable();
    let slow = window.took.get(window.took.len() * 999 / 1000).map(|&took| f64::from(took));
    Sample {
        at: begin.elapsed().as_secs_f64(),
        calm,
        memory: proc::memory(pid) as f64,
        files: proc::open_files(pid) as f64,
        threads: proc::threads(pid) as f64,
        p999: slow.filter(|_| window.took.len() >= 100),
        right: window.right,
        excused: window.excused,
    }
}

/// By how much the line through `points` rises from the first to the last (least squares).
fn rise(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (xy, xx) = points.iter().fold((0.0, 0.0), |(xy, xx), p| (xy + (p.0 - x) * (p.1 - y), xx + (p.0 - x).powi(2)));
    let span = points.last().map_or(0.0, |p| p.0) - points.first().map_or(0.0, |p| p.0);
    if xx == 0.0 { 0.0 } else { xy / xx * span }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// What must be flat and is not.
fn growth(samples: &[Sample]) -> Vec<String> {
    // The first part is for the cache to fill and the allocator to find its size.
    let settled = &samples[samples.len() * 3 / 10..];
    let mut problems = Vec::new();
    let mut check = |what: &str, of: fn(&Sample) -> f64, slack: f64| {
        let points: Vec<(f64, f64)> = settled.iter().filter(|s| s.calm).map(|s| (s.at, of(s))).collect();
        let (rise, typical) = (rise(&points), median(points.iter().map(|p| p.1).collect()));
        println!("{what}: {typical:.0}, rises by {rise:.1}");
        if rise > typical / 10.0 + slack {
            problems.push(format!("{what} rises by {rise:.0} from about {typical:.0}"));
        }
    };
    check("memory", |s| s.memory, SLACK);
    check("descriptors", |s| s.files, 40.0);
    check("threads", |s| s.threads, 2.0);
    let slow: Vec<f64> = settled.iter().filter_map(|s| s.p999).collect();
    let third = slow.len() / 3;
    let [early, late] = [&slow[..third], &slow[slow.len() - third..]].map(|part| median(part.to_vec()));
    println!("p99.9: {early:.0} µs, at the end {late:.0} µs");
    if late > 5.0 * early + 100_000.0 {
        problems.push(format!("p99.9 rises from {early:.0} to {late:.0} µs"));
    }
    problems
}

/// How long it takes: `NODENS_SOAK`.
fn total() -> Duration {
    let text = std::env::var("NODENS_SOAK").unwrap_or_else(|_| "8s".to_owned());
    let (number, unit) = text.split_at(text.len() - 1);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("NODENS_SOAK: {text:?} is not like 30s, 10m or 24h"),
    };
    Duration::from_secs(number.parse::<u64>().unwrap() * seconds)
}

/// How many queries a second: `NODENS_SOAK_RATE`.
fn rate() -> u32 {
    std::env::var("NODENS_SOAK_RATE").map_or(2000, |text| text.parse().unwrap())
}

#[test]
fn g15_soak() {
    let ports = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let mut upstreams = ports.map(Restartable::start);
    // A small cache is soon full; old answers are given soon, so that no client has many outstanding.
    let config = |number: u64| {
        format!(
            "{}cache: {{ maxBytes: 4Mi, positive: {{ maxTtl: {}s }}, serveStale: {{ clientWait: 500ms, recheck: 1s }} }}
limits: {{ inFlight: 100000, inFlightPerClient: 10000 }}\n",
            forward_to(&ports, ""),
            5 + number % 2
        )
    };
    let mut server = Server::start(&config(0));
    let idle = proc::open_files(server.pid());
    let shared = Arc::new(Shared {
        server: server.dns,
        number: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        away: Mutex::default(),
        window: Mutex::default(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let second = Duration::from_secs(1);
    // One query in twenty comes over TCP.
    let over_tcp = (0..10).map(|n| runtime.spawn(over_tcp(shared.clone(), n, second * 200 / rate())));
    let each = second * u32::from(CLIENTS) / rate();
    let over_udp = (0..CLIENTS).map(|n| runtime.spawn(over_udp(shared.clone(), n, each)));
    let clients: Vec<_> = over_tcp.chain(over_udp).collect();
    let (begin, total, pid) = (Instant::now(), total(), server.pid());
    let length = (total / 40).clamp(second / 5, second * 10);
    let mut samples = Vec::new();
    let mut bad = Vec::new();
    std::thread::scope(|scope| {
        let (shared, server, upstreams) = (&shared, &server, &mut upstreams);
        let chaos = scope.spawn(move || trouble(shared, server, upstreams, &config));
        while begin.elapsed() < total && bad.len() < 100 && !chaos.is_finished() {
            sleep(length);
            let mut window = std::mem::take(&mut *shared.window.lock().unwrap());
            samples.push(sample(begin, pid, !shared.is_excused(Instant::now(), Instant::now()), &mut window));
            bad.append(&mut window.bad);
        }
        shared.stop.store(true, Relaxed);
    });
    runtime.block_on(async {
        for client in clients {
            client.await.unwrap();
        }
    });
    // What was asked last is answered or given up by now.
    bad.append(&mut shared.window.lock().unwrap().bad);
    drop(runtime);
    report(&samples);
    let mut problems = growth(&samples);
    problems.extend(bad.into_iter().take(100));
    let asked: u64 = samples.iter().map(|s| s.right + s.excused).sum();
    println!("{asked} queries, {} stale answers", server.metric("nodens_stale_answers_total", ""));
    assert!(problems.is_empty(), "{}\nlog:\n{}", problems.join("\n"), tail(&server.log()));
    assert!(asked > 0 && samples.iter().any(|s| s.p999.is_some()), "nothing was measured");
    server.until("nothing is left open", |server| proc::open_files(server.pid()) <= idle + 10);
}

/// Prints about twenty of the samples.
fn report(samples: &[Sample]) {
    let mut text = String::from("| after s | memory kB | descriptors | threads | p99.9 µs | right | excused |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for s in samples.iter().step_by(samples.len() / 20 + 1) {
        let p999 = s.p999.map_or("-".to_owned(), |p999| format!("{p999:.0}"));
        let memory = s.memory / 1024.0;
        let _ = writeln!(
            text,
            "| {:.0} | {memory:.0} | {} | {} | {p999} | {} | {} |",
            s.at, s.files, s.threads, s.right, s.excused
        );
    }
    println!("{text}");
}

/// The end of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
