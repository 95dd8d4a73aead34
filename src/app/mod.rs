//! The composition root: the only place that knows all modules. Configuration in, a running daemon out.
//!
//! Where something is to be made of the node's network, [`serve`] is two processes: `guard` tells the guardian what the
//! configuration wants, and [`supervised`] is the server that the guardian starts and hands its sockets to. Elsewhere
//! [`run`] is all of it, on sockets of its own.
//!
//! The order of a start: all sockets ([`sockets`]), upstreams and zones, cache and resolver, what was saved of the cache
//! (`persist`), workers, listeners, probes. The end is the start backwards: readiness falls first, then sockets leave their
//! groups with their queues read out, then what is in flight is answered, and the cache is saved.

mod coredns;
mod endpoints;
mod guard;
pub mod last_good;
mod loops;
mod metrics;
mod network_metrics;
mod node_cache;
mod persist;
mod reload;
mod rules;
mod side;
pub mod sockets;
pub mod supervised;
mod upstreams;

use crate::admin::ready::Readiness;
use crate::admin::{self, Routes};
use crate::cache::Store;
use crate::config::reload::Watcher;
use crate::config::{self, AnswerStyle, Answers, Config, Overrides, Problem};
use crate::observe::coredns::SetupError;
use crate::observe::log;
use crate::observe::metrics::Metrics;
use crate::resolve::{Limits, Resolver};
use crate::serve::Front;
use crate::serve::client::{Acl, ConnectionLimits, Patience};
use crate::serve::stream::House;
use crate::serve::udp::Worker;
use crate::sys::clock::Clock;
use crate::sys::code;
use crate::wire::reply::Manner;
use ipnet::{IpNet, Ipv4Net};
use last_good::LastGood;
use node_cache::{PidFile, Written};
use persist::Persistence;
use sockets::Sockets;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use upstreams::Upstreams;

/// Descriptors that are used for other things than clients' connections: upstreams, listeners, scrapes.
const DESCRIPTORS: u64 = 512;
/// How long a stop waits for answers that are still owed.
const DRAIN: Duration = Duration::from_secs(5);
/// Tasks that run between two looks at the sockets, when so many are ready.
const ROUND: u32 = 192;
/// How often expired answers are looked for.
const PURGE: Duration = Duration::from_secs(10);
/// When a start is over.
const SETTLED: Duration = Duration::from_secs(1);
/// How often a drain looks whether it is over.
const LOOK: Duration = Duration::from_millis(5);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The validated configuration.
    pub config: Config,
    /// Its text.
    pub text: String,
    /// What it came from, followed when it changes; `None` when there is no file.
    pub watcher: Option<Watcher>,
    /// What was wrong with parts of that and left out.
    pub passed_over: Vec<Problem>,
    /// The Corefile with its variables replaced.
    pub rendered: Option<String>,
    /// What the command line puts over the file, at each reload as well.
    pub overrides: Overrides,
    /// Where an accepted configuration is kept for the next server, if a guardian will start one.
    pub last_good: Option<Arc<LastGood>>,
}

impl From<(config::Loaded, Overrides)> for Options {
    fn from((loaded, overrides): (config::Loaded, Overrides)) -> Options {
        let config::Loaded { config, text, passed_over, source, files, rendered, fingerprint, .. } = loaded;
        let watcher = source.map(|source| Watcher::new(source, fingerprint, &files));
        Options { config, text, watcher, passed_over, rendered, overrides, last_good: None }
    }
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket cannot be had.
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
    /// An upstream of the configuration is not there.
    #[error(transparent)]
    Upstream(#[from] upstreams::Error),
    /// The system gives no threads, no runtime or no signals.
    #[error("cannot start {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The network cannot be made ours.
    #[error(transparent)]
    Guardian(#[from] crate::guardian::Error),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// Neither the file nor what was kept of it can be used.
    #[error(transparent)]
    Config(#[from] config::Problems),
    /// The environment does not say where the Service `kube-dns` is.
    #[error(
        "listen.addresses names kube-dns, but {} is not set: run nodens in the namespace of the Service kube-dns, or write \
         the address that pods ask",
        config::limits::SERVICE_VARIABLE
    )]
    ServiceMissing,
    /// The process that started this server has ended.
    #[error("the guardian is gone: its sockets are of no use without it")]
    Orphaned,
}

/// Whether `config` can be served in this environment, as far as that can be told without serving it.
///
/// # Errors
/// When the environment names us where it should name kube-dns, or nothing that has an address.
pub fn check_environment(config: &Config) -> Result<(), Error> {
    Ok(upstreams::check_environment(config)?)
}

/// Whether all addresses are known on which `config` wants to listen.
fn check_service(config: &Config) -> Result<(), Error> {
    if config.listen.service_missing { Err(Error::ServiceMissing) } else { Ok(()) }
}

/// Makes an [`Error::System`].
fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// Serves until told to stop: as guardian and server where something is to be made of the host's network, else as one
/// process.
///
/// # Errors
/// When it cannot start.
pub fn serve(loaded: config::Loaded, overrides: Overrides) -> Result<(), Error> {
    // No server of this process will find another environment.
    check_environment(&loaded.config)?;
    check_service(&loaded.config)?;
    if loaded.config.network_is_on() { guard::run(&loaded, &overrides) } else { run((loaded, overrides).into()) }
}

/// Runs the daemon until SIGTERM or SIGINT, then drains. A second signal ends the process at once.
///
/// All look-ups and TCP connections share one thread: what one task wakes, the next ones of the same round find ready,
/// and nothing is passed between cores. Hits over UDP have threads of their own, and so has all that serves people.
///
/// # Errors
/// When it cannot start.
pub fn run(options: Options) -> Result<(), Error> {
    let log = start_log(&options.config)?;
    raise_descriptors(&options.config);
    abort_on_panic();
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(system("signal handling"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("signal handling"))?;
        let mut quit = signal(SignalKind::quit()).map_err(system("signal handling"))?;
        let pid_file = options.overrides.node_cache.as_ref().and_then(|over| over.flags.pid_file.clone());
        let lame_duck = options.config.lame_duck;
        let written = Written::begin(options.watcher.as_ref().map(Watcher::source), options.rendered.as_deref());
        let sockets = Sockets::bind(&options.config)?;
        let mut prepared = prepare(options, Some(log.clone()))?;
        prepared.written = written;
        prepared.load(None).await?;
        let running = start(prepared, sockets)?;
        let _pid_file = pid_file.and_then(|path| PidFile::write(&path));
        let mut asked_to_stop = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
            }
        };
        asked_to_stop().await;
        if !lame_duck.is_zero() {
            tracing::info!(?lame_duck, "not ready any more, and going on for a while");
            running.bid_farewell();
            tokio::select! {
                () = tokio::time::sleep(lame_duck) => {}
                () = asked_to_stop() => {}
            }
        }
        tracing::info!("stopping: answering what has arrived");
        tokio::select! {
            () = running.stop() => tracing::info!("stopped"),
            () = asked_to_stop() => tracing::warn!("stopped at once, as asked"),
        }
        Ok(())
    });
    log.flush();
    // Threads that still wait in the kernel hold nothing that matters any more.
    runtime.shutdown_background();
    result
}

/// The runtime of all look-ups.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // Rounds long enough that one look at the sockets finds several replies.
    builder.enable_all().event_interval(ROUND).build().map_err(system("the runtime"))
}

/// Has a panic, once it is logged, end the process whatever the profile: without the thread or task that it ended, the
/// daemon would answer by halves, and a process that is gone is at least noticed and started again.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

/// Takes all the descriptors that the process may have; says so when they do not suffice for the connections allowed.
fn raise_descriptors(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A failure leaves the limit as it is, and what that means is said below.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let wanted = config.limits.tcp_connections as u64 + DESCRIPTORS;
    if let Some(have) = getrlimit(Resource::Nofile).current.filter(|have| *have < wanted) {
        tracing::warn!(
            have,
            wanted,
            "fewer file descriptors than limits.tcpConnections may need: raise the limit (nofile)"
        );
    }
}

fn start_log(config: &Config) -> Result<log::Log, Error> {
    let format = match config.log.format {
        config::LogFormat::Auto => log::Format::Auto,
        config::LogFormat::Text => log::Format::Text,
        config::LogFormat::Json => log::Format::Json,
        config::LogFormat::Coredns => log::Format::Coredns,
    };
    Ok(log::init(format, reload::level(config.log.level))?)
}

/// A running daemon.
pub struct Running {
    parts: Arc<Parts>,
    readiness: Arc<Readiness>,
    workers: Vec<Worker>,
    listeners: JoinSet<()>,
    persistence: Option<Persistence>,
    /// Ends when dropped.
    _side: side::Side,
    /// Aborted when dropped.
    background: JoinSet<()>,
}

/// What a reload changes.
struct Parts {
    config: Mutex<Config>,
    front: Arc<Front>,
    house: Arc<House>,
    upstreams: Upstreams,
    metrics: Arc<Metrics>,
    log: Option<log::Log>,
    last_good: Option<Arc<LastGood>>,
    written: Written,
}

/// Everything that needs no sockets.
pub struct Prepared {
    options: Options,
    store: Arc<Store>,
    resolver: Resolver,
    upstreams: Upstreams,
    metrics: Arc<Metrics>,
    log: Option<log::Log>,
    persistence: Option<Persistence>,
    written: Written,
}

/// Prepares the daemon, on the runtime on which it shall run.
///
/// # Errors
/// When an upstream is not there.
pub fn prepare(options: Options, log: Option<log::Log>) -> Result<Prepared, Error> {
    let config = &options.config;
    let metrics = if config.coredns_names { Metrics::with_coredns_names() } else { Metrics::new() };
    coredns::describe(&metrics, config, &options.text);
    let upstreams = Upstreams::new(sockets::dns_addresses(config), Arc::clone(&metrics), None);
    let zones = upstreams.zones(config)?;
    let store = Arc::new(Store::new(config.cache.max_bytes));
    let resolver = Resolver::start(Arc::clone(&store), zones, limits(config), Arc::clone(&metrics), Clock::System);
    metrics::report(&metrics, Arc::clone(&store), upstreams.clone(), log.clone());
    coredns::report(&metrics, Arc::clone(&store), upstreams.clone());
    let written = Written::default();
    Ok(Prepared { options, store, resolver, upstreams, metrics, log, persistence: None, written })
}

impl Prepared {
    /// Loads the cache that was saved before, if one is to be kept, and has it saved from now on. With `since`, a
    /// predecessor saves after that time.
    async fn load(&mut self, since: Option<SystemTime>) -> Result<(), Error> {
        let (store, resolver) = (Arc::clone(&self.store), self.resolver.clone());
        let zones = move || Arc::clone(&resolver.zones());
        let started = Persistence::start(&self.options.config, store, zones, &self.metrics, since).await;
        self.persistence = started.map_err(system("the thread that saves the cache"))?;
        Ok(())
    }
}

/// Starts what was prepared behind `sockets`.
///
/// # Errors
/// When the system gives too little. Nothing is left running then.
pub fn start(prepared: Prepared, sockets: Sockets) -> Result<Running, Error> {
    let Prepared { options, store, resolver, upstreams, metrics, log, persistence, written } = prepared;
    let config = &options.config;
    let own = sockets.addresses();
    let readiness = Readiness::new(Clock::System);
    let acl = acl(config);
    let manner = manner(config);
    let front = Front::new(store, resolver, Arc::clone(&metrics), acl, own.clone()).in_manner(manner);
    let front = Arc::new(front);
    let house = House::new(Arc::clone(&front), connection_limits(config));
    let mut workers = Vec::new();
    for socket in sockets.udp {
        let door = front.door(socket.local_addr().map_err(system("a UDP worker"))?);
        workers.push(Worker::start(Arc::clone(&front), door, socket).map_err(system("a UDP worker"))?);
    }
    let mut listeners = JoinSet::new();
    for listener in sockets.tcp {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(system("a TCP listener"))?;
        let door = front.door(listener.local_addr().map_err(system("a TCP listener"))?);
        listeners.spawn(Arc::clone(&house).serve(door, listener));
    }
    readiness.listeners(&own);
    let mut background = JoinSet::new();
    background.spawn(upstreams.clone().reach(readiness.register("upstream")));
    background.spawn(loops::watch(upstreams.clone(), Arc::clone(front.resolver.probes()), Arc::clone(&metrics)));
    let mut beside: Vec<side::Task> =
        vec![Box::pin(upstreams.clone().follow()), Box::pin(purge(Arc::clone(&front))), Box::pin(settle())];
    let lacking = (config.metrics.len() + config.metrics_optional.len()).saturating_sub(sockets.metrics.len());
    metrics.register(Box::new(move |sink| {
        let help = "Places where metrics should be served, and whose port could not be had.";
        sink.gauge("nodens_metrics_listeners_missing", help, &[], lacking as f64);
    }));
    let pages = sockets.metrics.into_iter().map(|listener| (listener, Routes::Metrics));
    let probes = sockets.health.into_iter().map(|listener| (listener, Routes::Health(Arc::clone(&readiness))));
    for (listener, routes) in pages.chain(probes) {
        let metrics = Arc::clone(&metrics);
        beside.push(Box::pin(async move {
            let Err(error) = admin::serve(listener, routes, metrics, admin::Limits::default()).await;
            tracing::error!(%error, "cannot serve HTTP");
        }));
    }
    if let Some(health) = config.health.filter(|_| metrics.coredns().is_some()) {
        beside.push(Box::pin(coredns::probe(Arc::clone(&metrics), health)));
    }
    let (config, last_good) = (Mutex::new(options.config), options.last_good);
    let parts = Arc::new(Parts { config, front, house, upstreams, metrics, log, last_good, written });
    parts.pass_over(&options.passed_over);
    if options.overrides.node_cache.is_some() {
        beside.push(Box::pin(node_cache::mind_missing_service(Arc::clone(&parts), Arc::clone(&readiness))));
    }
    if let Some(watcher) = options.watcher {
        let (parts, overrides) = (Arc::clone(&parts), options.overrides);
        // From here on these signals end nothing any more.
        let signals = [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()].map(signal);
        let [Ok(hangup), Ok(user1), Ok(user2)] = signals else {
            return Err(system("signal handling")(io::Error::last_os_error()));
        };
        beside.push(Box::pin(reload::watch(parts, watcher, overrides, [hangup, user1, user2])));
    }
    let side = side::Side::start(beside).map_err(system("the side thread"))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = ?own, "serving");
    Ok(Running { parts, readiness, workers, listeners, persistence, _side: side, background })
}

/// Gives back what the start alone needed, once it is over.
async fn settle() {
    tokio::time::sleep(SETTLED).await;
    if let Err(error) = code::release() {
        tracing::debug!(%error, "cannot give back memory of the start");
    }
    std::future::pending().await
}

/// Has the store give back what has expired, now and then, for ever.
async fn purge(front: Arc<Front>) {
    let mut tick = tokio::time::interval(PURGE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        front.store.purge(Clock::System.now(), front.resolver.longest_stale());
    }
}

impl Running {
    /// Prepares a stop: no client is to be in the middle of a TCP connection then.
    pub fn bid_farewell(&self) {
        self.readiness.register("lifecycle").set(false, "stopping");
        self.parts.house.bid_farewell();
    }

    /// Has the cache saved now, if it is to be kept.
    pub fn save(&self) {
        self.persistence.iter().for_each(Persistence::save);
    }

    /// Stops: takes nothing new, answers what has arrived, at most for five seconds; then saves the cache, at most for one.
    pub async fn stop(mut self) {
        self.readiness.register("lifecycle").set(false, "stopping");
        self.parts.house.close();
        self.workers.iter().for_each(Worker::retire);
        let drained = async {
            while self.listeners.join_next().await.is_some() {}
            while !self.workers.iter().all(Worker::is_finished) || self.parts.front.resolver.in_flight() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let in_flight = self.parts.front.resolver.in_flight();
            let connections = self.parts.house.connections();
            tracing::warn!(in_flight, connections, "not everything was answered in time");
        }
        self.background.shutdown().await;
        if let Some(persistence) = &self.persistence {
            persistence.save_last().await;
        }
    }
}

impl Parts {
    /// Says what of the sources was left out.
    fn pass_over(&self, problems: &[Problem]) {
        for problem in problems {
            tracing::error!(%problem, "a part of the configuration cannot be used");
            self.metrics.setup_error(SetupError::Configmap);
        }
    }

    fn config(&self) -> Config {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who may ask: the networks listed, and the host itself, from our own addresses or from loopback ones, as probes do.
fn acl(config: &Config) -> Acl {
    let mut networks = config.listen.allow_from.clone();
    if !networks.is_empty() {
        networks.extend(config.listen.addresses.iter().map(|address| IpNet::from(address.ip())));
        networks.push(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into());
        networks.push(IpAddr::from(Ipv6Addr::LOCALHOST).into());
    }
    Acl::new(networks)
}

/// How answers are written.
fn manner(config: &Config) -> Manner {
    let Answers { style, udp_size } = config.answers;
    Manner { like_coredns: style == AnswerStyle::Coredns, udp_limit: udp_size }
}

fn limits(config: &Config) -> Limits {
    Limits {
        in_flight: config.limits.in_flight,
        in_flight_per_client: config.limits.in_flight_per_client,
        patience: config::limits::PATIENCE,
    }
}

fn connection_limits(config: &Config) -> ConnectionLimits {
    let (usual, config::Timeouts { read, write, idle }) = (Patience::default(), config.listen.timeouts);
    let idle = idle.unwrap_or(usual.idle);
    ConnectionLimits {
        total: config.limits.tcp_connections,
        per_client: config.limits.tcp_connections_per_client,
        patience: Patience { read: read.unwrap_or(idle), write: write.unwrap_or(idle), idle },
    }
}

#[cfg(test)]
mod tests;
