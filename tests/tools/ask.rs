//! A client that asks at a steady rate, on fresh sockets or on long-lived ones, and says how it went.
//!
//! The longest gap is the longest time in which no answer came. A query answered after its time counts as lost, and none
//! is ever sent twice over UDP.

use crate::message::{Outcome, framed, is_right, query, read, ttl};
use crate::until_input_ends;
use hickory_proto::rr::RecordType;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};

/// Whom to ask, and how: `udp:169.254.20.10`, `tcp:[fd00:96::a]:53`.
#[derive(Clone)]
pub struct Target {
    text: String,
    tcp: bool,
    address: SocketAddr,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (proto, at) = text.split_once(':').ok_or("not udp:ADDRESS or tcp:ADDRESS")?;
        let address = at.parse().or_else(|_| at.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
        let address = address.map_err(|error| format!("{at}: {error}"))?;
        Ok(Target { text: text.to_owned(), tcp: proto == "tcp", address })
    }
}

/// Arguments of `ask`.
#[derive(clap::Args)]
pub struct Args {
    /// Queries per second to each target.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Long-lived sockets for each target; with 0 every query has one of its own.
    #[arg(long, default_value_t = 0)]
    sockets: u32,
    /// How long an answer may take, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    timeout: u64,
    /// How long to ask, in milliseconds; otherwise until standard input ends.
    #[arg(long)]
    duration: Option<u64>,
    /// How many names are asked for in turn; with 0 none is asked for twice.
    #[arg(long, default_value_t = 1)]
    names: u64,
    /// How the names begin, before a number.
    #[arg(long, default_value = "n")]
    prefix: String,
    /// Whether the answers must be those of the tool `upstream`.
    #[arg(long)]
    verify: bool,
    /// Whether each long-lived UDP socket is another client: 127.0.1.1, 127.0.1.2 and so on, on the host that is asked.
    #[arg(long)]
    sources: bool,
    /// Who is asked.
    targets: Vec<Target>,
}

/// Arguments of `once`.
#[derive(clap::Args)]
pub struct Once {
    /// How long an answer may take, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    timeout: u64,
    /// For what.
    #[arg(long, default_value = "n0.ask.cluster.local.")]
    name: String,
    /// Who is asked.
    targets: Vec<Target>,
}

/// Asks every target once and prints who answered, after how long, and for how long that holds.
pub fn once(args: Once) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let patience = Duration::from_millis(args.timeout);
        let mut probes = JoinSet::new();
        for target in args.targets {
            let message = query(7, &args.name, RecordType::A);
            probes.spawn(async move {
                let begin = Instant::now();
                let packet = fresh(&target, &message, patience).await;
                (packet.unwrap_or_default(), begin.elapsed().as_millis() as u64, target)
            });
        }
        for (packet, ms, target) in probes.join_all().await {
            let outcome = read(&packet).map_or(Outcome::Lost, |(_, outcome)| outcome);
            let outcome = format!("{outcome:?}").to_lowercase();
            let ttl = ttl(&packet).unwrap_or_default();
            println!("{}", serde_json::json!({ "target": target.text, "outcome": outcome, "ms": ms, "ttl": ttl }));
        }
    });
}

/// What is common to all that ask one target.
struct Client {
    target: Target,
    timeout: Duration,
    names: u64,
    prefix: String,
    verify: bool,
    sources: bool,
    stop: watch::Receiver<bool>,
    tally: Arc<Mutex<Tally>>,
}

/// What became of one query.
struct Asked {
    sent: Instant,
    heard: Instant,
    outcome: Outcome,
}

/// What became of the queries to one target.
#[derive(Default)]
struct Tally {
    outcomes: Vec<Asked>,
    errors: BTreeMap<String, u64>,
    /// Long-lived connections closed between two queries.
    reopened: u64,
    /// Connections closed while a query had no answer yet; it was asked again.
    cut: u64,
}

impl Client {
    fn note(&self, sent: Instant, outcome: Result<Outcome, String>) {
        let mut tally = self.tally.lock().unwrap();
        let outcome = outcome.unwrap_or_else(|error| {
            *tally.errors.entry(error).or_default() += 1;
            Outcome::Lost
        });
        tally.outcomes.push(Asked { sent, heard: Instant::now(), outcome });
    }

    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// The query of this number.
    fn query(&self, number: u64) -> Vec<u8> {
        let name = number.checked_rem(self.names).unwrap_or(number);
        query(number as u16, &format!("{}{name}.ask.cluster.local.", self.prefix), RecordType::A)
    }

    /// What became of a query; `None` when `packet` is no reply.
    fn judge(&self, packet: &[u8]) -> Option<(u16, Outcome)> {
        let (id, outcome) = read(packet)?;
        let answered = matches!(outcome, Outcome::Local | Outcome::Stale | Outcome::Backend);
        Some((id, if self.verify && answered && !is_right(packet) { Outcome::Wrong } else { outcome }))
    }
}

/// Asks, then prints one line per target.
pub fn run(args: Args) {
    let (stop, stopped) = watch::channel(false);
    let tallies = Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut clients = JoinSet::new();
        let mut tallies = Vec::new();
        for target in &args.targets {
            let tally = Arc::new(Mutex::new(Tally::default()));
            tallies.push((target.text.clone(), tally.clone()));
            let timeout = Duration::from_millis(args.timeout);
            let client = Arc::new(Client {
                target: target.clone(),
                timeout,
                names: args.names,
                prefix: args.prefix.clone(),
                verify: args.verify,
                sources: args.sources,
                stop: stopped.clone(),
                tally,
            });
            let each = Duration::from_secs(1) * args.sockets.max(1) / args.rate;
            match (args.sockets, target.tcp) {
                (0, _) => drop(clients.spawn(on_fresh_sockets(client, each))),
                (n, true) => (0..n).for_each(|i| drop(clients.spawn(on_a_connection(client.clone(), each, i, n)))),
                (n, false) => (0..n).for_each(|i| drop(clients.spawn(on_a_socket(client.clone(), each, i, n)))),
            }
        }
        println!("asking");
        match args.duration {
            Some(duration) => sleep(Duration::from_millis(duration)).await,
            None => tokio::task::spawn_blocking(until_input_ends).await.unwrap(),
        }
        stop.send(true).unwrap();
        clients.join_all().await;
        tallies
    });
    for (target, tally) in tallies {
        println!("{}", summary(&target, &tally.lock().unwrap()));
    }
}

/// Ticks every `each`, the `i`th of `n` clients in its place between those of the others.
async fn ticks(each: Duration, i: u32, n: u32) -> tokio::time::Interval {
    sleep(each * i / n).await;
    let mut ticks = interval(each);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

async fn on_fresh_sockets(client: Arc<Client>, each: Duration) {
    let mut probes = JoinSet::new();
    let mut ticks = ticks(each, 0, 1).await;
    for number in 0u64.. {
        ticks.tick().await;
        if client.stopped() {
            break;
        }
        let client = client.clone();
        probes.spawn(async move {
            let sent = Instant::now();
            let packet = fresh(&client.target, &client.query(number), client.timeout).await;
            let judged = packet.and_then(|packet| client.judge(&packet).ok_or_else(|| "no reply".to_owned()));
            client.note(sent, judged.map(|(_, outcome)| outcome));
        });
        while probes.try_join_next().is_some() {}
    }
    probes.join_all().await;
}

/// The reply to a query on a socket of its own.
async fn fresh(target: &Target, message: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
    let exchange = async {
        if target.tcp {
            let mut stream = TcpStream::connect(target.address).await?;
            return over(&mut stream, message).await;
        }
        let socket = datagrams(any(target.address), target.address).await?;
        socket.send(message).await?;
        let mut room = [0; 4096];
        loop {
            let length = socket.recv(&mut room).await?;
            if read(&room[..length]).is_some_and(|(id, _)| message.starts_with(&id.to_be_bytes())) {
                return Ok(room[..length].to_vec());
            }
        }
    };
    match timeout(patience, exchange).await {
        Ok(packet) => packet.map_err(|error: std::io::Error| error.kind().to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn any(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

async fn datagrams(from: IpAddr, to: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// One query and its answer on a connection.
async fn over(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(&framed(message)).await?;
    let length = stream.read_u16().await?;
    let mut packet = vec![0; usize::from(length)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

/// A socket for the whole time: queries go out on time, whether or not those before have been answered.
async fn on_a_socket(client: Arc<Client>, each: Duration, i: u32, n: u32) {
    let own = || Ipv4Addr::new(127, 0, 1, u8::try_from(i + 1).expect("at most 255 clients")).into();
    let from = if client.sources { own() } else { any(client.target.address) };
    let socket = datagrams(from, client.target.address).await.unwrap();
    let mut ticks = ticks(each, i, n).await;
    let mut waiting: BTreeMap<u16, Instant> = BTreeMap::new();
    let mut room = [0; 4096];
    let mut numbers = (u64::from(i)..).step_by(n as usize);
    let mut until = None;
    while until.is_none() || !waiting.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if until.is_none() => {
                let number = numbers.next().unwrap();
                let message = client.query(number);
                waiting.insert(number as u16, Instant::now());
                if let Err(error) = socket.send(&message).await {
                    *client.tally.lock().unwrap().errors.entry(format!("send: {}", error.kind())).or_default() += 1;
                }
                if client.stopped() {
                    until = Some(tokio::time::Instant::now() + client.timeout);
                }
            }
            received = socket.recv(&mut room) => match received {
                Ok(length) => {
                    let heard = client.judge(&room[..length]);
                    let Some((sent, outcome)) = heard.and_then(|(id, o)| Some((waiting.remove(&id)?, o))) else { continue };
                    let late = || Err("answered too late".to_owned());
                    client.note(sent, if sent.elapsed() > client.timeout { late() } else { Ok(outcome) });
                }
                Err(error) => *client.tally.lock().unwrap().errors.entry(format!("receive: {}", error.kind())).or_default() += 1,
            },
            () = sleep_until(until.unwrap_or_else(tokio::time::Instant::now)), if until.is_some() => break,
        }
    }
    for sent in waiting.into_values() {
        client.note(sent, Err("no answer in time".to_owned()));
    }
}

/// A connection for the whole time, one query after the other. That the server closes it between two queries is its
/// right (RFC 7766 §6.2.3); a query that it cuts off is asked again once, and counted.
async fn on_a_connection(client: Arc<Client>, each: Duration, i: u32, n: u32) {
    let mut ticks = ticks(each, i, n).await;
    let mut open: Option<TcpStream> = None;
    for number in (u64::from(i)..).step_by(n as usize) {
        ticks.tick().await;
        if client.stopped() {
            break;
        }
        let sent = Instant::now();
        if open.take_if(|stream| is_closed(stream)).is_some() {
            client.tally.lock().unwrap().reopened += 1;
        }
        let message = client.query(number);
        let mut outcome = on_connection(&mut open, &client, &message).await;
        if outcome.is_err() && sent.elapsed() < client.timeout {
            client.tally.lock().unwrap().cut += 1;
            outcome = on_connection(&mut open, &client, &message).await;
        }
        client.note(sent, outcome);
    }
}

/// One query on the open connection, or a new one; none is open after a failure.
async fn on_connection(open: &mut Option<TcpStream>, client: &Client, message: &[u8]) -> Result<Outcome, String> {
    let exchange = async {
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => TcpStream::connect(client.target.address).await?,
        };
        let packet = over(&mut stream, message).await?;
        let (_, outcome) = client.judge(&packet).ok_or(std::io::ErrorKind::InvalidData)?;
        *open = Some(stream);
        Ok(outcome)
    };
    match timeout(client.timeout, exchange).await {
        Ok(outcome) => outcome.map_err(|error: std::io::Error| error.kind().to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Has the other side closed this idle connection?
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// The figures of one target as JSON.
fn summary(target: &str, tally: &Tally) -> String {
    let all = &tally.outcomes;
    let count = |wanted: Outcome| all.iter().filter(|asked| asked.outcome == wanted).count();
    let [fresh, stale, backend] = [Outcome::Local, Outcome::Stale, Outcome::Backend].map(count);
    let [wrong, failed, lost] = [Outcome::Wrong, Outcome::Failed, Outcome::Lost].map(count);
    let is_answer = |outcome| matches!(outcome, Outcome::Local | Outcome::Stale | Outcome::Backend);
    let answered = all.iter().filter(|asked| is_answer(asked.outcome));
    let mut took: Vec<Duration> = answered.clone().map(|asked| asked.heard - asked.sent).collect();
    took.sort_unstable();
    let quantile = |q: usize| took.get((took.len() * q / 1000).min(took.len().saturating_sub(1)));
    let micros = |q| quantile(q).map_or(0, |took| took.as_micros() as u64);
    // Silence counts from the first query and up to the last one.
    let ends = all.iter().map(|asked| asked.sent).min().into_iter().chain(all.iter().map(|asked| asked.sent).max());
    let mut heard: Vec<Instant> = answered.map(|asked| asked.heard).chain(ends).collect();
    heard.sort_unstable();
    let gap = heard.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let elsewhere = || all.iter().filter(|asked| asked.outcome == Outcome::Backend).map(|asked| asked.sent);
    let away = elsewhere().max().zip(elsewhere().min()).map_or(Duration::ZERO, |(last, first)| last - first);
    serde_json::json!({
        "target": target,
        "sent": all.len(),
        "answered": fresh + stale + backend,
        "lost": lost,
        "failed": failed,
        "longest_gap_ms": gap.as_millis() as u64,
        "local": fresh + stale,
        "stale": stale,
        "wrong": wrong,
        "p50_us": micros(500),
        "p99_us": micros(990),
        "worst_us": micros(1000),
        "backend": backend,
        "backend_for_ms": away.as_millis() as u64,
        "reopened": tally.reopened,
        "cut": tally.cut,
        "errors": tally.errors,
    })
    .to_string()
}
