//! The server under a guardian: it binds nothing, has no privileges, tells what the guardian must know, and ends when it
//! is told to or when the guardian is gone.
//!
//! A guardian that replaces a server wants one that comes back. So a configuration file that has become invalid since, or
//! that wants other sockets, is passed over for the last good one ([`super::last_good`]); reloads then go on as ever.

use super::endpoints;
use super::last_good::{self, LastGood, is_bound_alike};
use super::network_metrics::Network;
use super::node_cache::Written;
use super::sockets::Sockets;
use super::{Error, Options, abort_on_panic, persist, prepare, raise_descriptors, runtime, start, start_log, system};
use crate::config::reload::Watcher;
use crate::config::{self, Loaded, Overrides, Problem, Problems, Source};
use crate::guardian::control::{LONGEST, Order, Report, pack, unpack};
use crate::observe::log::Log;
use crate::sys::{confine, signal, spawn};
use rustix::process::Signal;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::SystemTime;

/// Runs a server with `count` inherited descriptors: the control socket, the last good configuration, then sockets in any
/// order. Another instance that serves was told to save its cache after `since`. Returns when it was told to stop and has
/// drained.
///
/// # Errors
/// When it cannot start, and when the guardian is gone.
pub fn run(count: usize, since: Option<SystemTime>, source: Option<Source>, overrides: Overrides) -> Result<(), Error> {
    let mut descriptors = spawn::inherited(count).map_err(system("with inherited descriptors"))?.into_iter();
    let (Some(control), Some(memory)) = (descriptors.next(), descriptors.next()) else {
        let missing = io::Error::other("the control socket and the configuration are not among them");
        return Err(system("with inherited descriptors")(missing));
    };
    // Whoever stops the guardian means the guardian, which then tells us. A reload that comes before the file is followed
    // is in vain: it has just been read.
    signal::ignore(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1, Signal::USR2]);
    let memory = File::from(memory);
    // It says what is to be permitted, and is as trustworthy as whoever started us.
    let (loaded, bound, complaints) = configuration(source.as_ref(), &overrides, &memory)?;
    let source = source.or_else(|| loaded.source.clone());
    let written = Written::keep(source.as_ref(), loaded.rendered.as_deref());
    // Before the first thread and the first packet.
    let confinement = confine::server(persist::folder(&loaded.config));
    let log = start_log(&loaded.config)?;
    for complaint in complaints {
        tracing::error!(%complaint, "the last good configuration is used");
    }
    tracing::info!(%confinement, "confined");
    raise_descriptors(&loaded.config);
    abort_on_panic();
    let last_good = Arc::new(LastGood::new(memory, bound));
    let text = loaded.text.clone();
    let watcher = source.map(|source| Watcher::new(source, loaded.fingerprint, &loaded.files));
    let options = Options { watcher, last_good: Some(last_good), ..Options::from((loaded, overrides)) };
    let runtime = runtime()?;
    let result = runtime.block_on(serve(options, text, since, descriptors.collect(), control.into(), &log, written));
    log.flush();
    runtime.shutdown_background();
    result
}

/// The configuration to run with, the one that the sockets were bound for, and what is wrong with the file, if it is not
/// the one to run with.
fn configuration(
    source: Option<&Source>,
    overrides: &Overrides,
    memory: &File,
) -> Result<(Loaded, config::Config, Vec<Problem>), Problems> {
    let file = source.map_or_else(|| config::load(None, overrides), |source| source.load(overrides));
    let last = last_good::read(memory).ok();
    let last = last.and_then(|text| config::load_bytes("last good configuration", text.as_bytes(), overrides).ok());
    match (file, last) {
        (Ok(file), Some(last)) if !is_bound_alike(&file.config, &last.config) => {
            let source = file.source.map_or_else(|| "defaults".to_owned(), |source| source.to_string());
            let message = "other addresses, ports or network settings take a restart of nodens".to_owned();
            let complaint = Problem { source, at: None, key: String::new(), message };
            Ok((last.clone(), last.config, vec![complaint]))
        }
        (Ok(file), Some(last)) => Ok((file, last.config, Vec::new())),
        (Ok(file), None) => Ok((file.clone(), file.config, Vec::new())),
        (Err(problems), Some(last)) => Ok((last.clone(), last.config, problems.0)),
        (Err(problems), None) => Err(problems),
    }
}

/// Serves what `options` say, of which `text` is the file, behind the sockets among `descriptors`.
async fn serve(
    options: Options,
    text: String,
    since: Option<SystemTime>,
    descriptors: Vec<OwnedFd>,
    control: UnixDatagram,
    log: &Log,
    written: Written,
) -> Result<(), Error> {
    let guardian = Arc::new(Guardian::new(control).map_err(system("the control socket"))?);
    let (config, last_good) = (options.config.clone(), options.last_good.clone());
    let mut prepared = prepare(options, Some(log.clone()))?;
    prepared.written = written;
    prepared.load(since).await?;
    if let Err(error) = guardian.tell(&Report::Ready) {
        tracing::error!(%error, "cannot tell the guardian that all is prepared");
    }
    let mut state = None;
    loop {
        match guardian.order().await {
            Some(Order::State(now)) => state = Some(*now),
            Some(Order::Open) => break,
            Some(Order::Farewell | Order::Save) => {}
            Some(Order::Stop) => return Ok(()),
            None => return Err(Error::Orphaned),
        }
    }
    // Not before they are open: what is bound to nothing cannot be told from its like.
    let sockets = Sockets::from_inherited(&config, descriptors)?;
    let own = sockets.addresses();
    let mut running = start(prepared, sockets)?;
    if let Some(last_good) = last_good {
        last_good.keep(&text, &config);
    }
    let network = Network::new(&running.parts.metrics, running.readiness.register("network"));
    state.into_iter().for_each(|state| network.set(state));
    if let Err(error) = guardian.tell(&Report::Serving) {
        tracing::error!(%error, "cannot tell the guardian that everything runs");
    }
    if let Some(endpoint) = config.network.fail_open {
        let guardian = Arc::clone(&guardian);
        let tell = move |found: &[_]| guardian.tell(&Report::Endpoints(found.to_vec()));
        running.background.spawn(endpoints::follow(endpoint, own, tell));
    }
    loop {
        match guardian.order().await {
            Some(Order::State(state)) => network.set(*state),
            Some(Order::Open) => {}
            Some(Order::Farewell) => running.bid_farewell(),
            Some(Order::Save) => running.save(),
            Some(Order::Stop) => break,
            None => return Err(Error::Orphaned),
        }
    }
    tracing::info!("stopping: answering what has arrived");
    tokio::select! {
        () = running.stop() => tracing::info!("stopped"),
        () = guardian.gone() => return Err(Error::Orphaned),
    }
    Ok(())
}

/// The other end of the control socket.
struct Guardian {
    orders: tokio::net::UnixDatagram,
    reports: UnixDatagram,
}

impl Guardian {
    fn new(control: UnixDatagram) -> io::Result<Guardian> {
        control.set_nonblocking(true)?;
        let reports = control.try_clone()?;
        Ok(Guardian { orders: tokio::net::UnixDatagram::from_std(control)?, reports })
    }

    /// Never waits: a guardian that does not read is told nothing.
    fn tell(&self, report: &Report) -> io::Result<()> {
        self.reports.send(&pack(report)?).map(drop)
    }

    /// The next order; `None` when the guardian is gone.
    async fn order(&self) -> Option<Order> {
        let mut room = vec![0; LONGEST];
        loop {
            match self.orders.recv(&mut room).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => match unpack(&room[..length]) {
                    Ok(order) => return Some(order),
                    Err(error) => tracing::warn!(%error, "cannot understand the guardian"),
                },
            }
        }
    }

    /// Waits until the guardian is gone.
    async fn gone(&self) {
        while self.order().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen when the file has `file` and the memory has `last`: the failure TTL in seconds, which tells them
    /// apart, and what is said.
    fn chosen(file: Option<&str>, last: Option<&str>) -> Result<(u64, Vec<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodens.yaml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let memory = match last {
            Some(text) => File::from(last_good::create(text).unwrap()),
            None => tempfile::tempfile().unwrap(),
        };
        let found = configuration(Some(&Source::File(path.clone())), &Overrides::default(), &memory)
            .map_err(|p| p.to_string())?;
        let (loaded, bound, complaints) = found;
        assert!(is_bound_alike(&loaded.config, &bound));
        let complaints = complaints.iter().map(|c| c.to_string().replace(&path.display().to_string(), "FILE"));
        Ok((loaded.config.zones[0].ttls.failure.as_secs(), complaints.collect()))
    }

    #[test]
    fn the_file_is_used_unless_it_is_broken_or_wants_other_sockets() {
        const ONE: &str = "cache: { failureTtl: 1s }";
        const TWO: &str = "cache: { failureTtl: 2s }";
        assert_eq!(chosen(Some(TWO), Some(ONE)), Ok((2, vec![])));
        assert_eq!(chosen(Some(TWO), None), Ok((2, vec![])), "nothing was kept");
        assert_eq!(chosen(Some(TWO), Some("a: [")), Ok((2, vec![])), "what was kept is broken");
        let (used, said) = chosen(Some("cache: {failureTtl: 2w}\nlog: {level: 1}"), Some(ONE)).unwrap();
        assert_eq!((used, said.len()), (1, 2));
        assert!(said[0].starts_with("FILE:1:21: cache.failureTtl: "), "{said:?}");
        let (used, said) = chosen(None, Some(ONE)).unwrap();
        assert_eq!((used, said.len()), (1, 1));
        let elsewhere = format!("{TWO}\nlisten: {{ port: 54 }}");
        let complaint = "FILE: other addresses, ports or network settings take a restart of nodens".to_owned();
        assert_eq!(chosen(Some(&elsewhere), Some(ONE)), Ok((1, vec![complaint])));
        for last in [None, Some("a: [")] {
            let problems = chosen(Some("b: {"), last).unwrap_err();
            assert!(problems.contains("nodens.yaml:2:1: not valid YAML"), "the file's own: {problems}");
        }
    }

    #[tokio::test]
    async fn orders_are_read_and_the_end_is_seen() {
        let (guardian, server) = crate::guardian::control::pair().unwrap();
        let server = Guardian::new(server).unwrap();
        guardian.send(b"nonsense").unwrap();
        guardian.send(&pack(&Order::Stop).unwrap()).unwrap();
        assert_eq!(server.order().await, Some(Order::Stop), "nonsense is passed over");
        server.tell(&Report::Serving).unwrap();
        let mut room = [0; 64];
        let length = guardian.recv(&mut room).unwrap();
        assert_eq!(unpack::<Report>(&room[..length]).unwrap(), Report::Serving);
        // Never read: the end looks like an error then.
        server.tell(&Report::Serving).unwrap();
        drop(guardian);
        server.gone().await;
        assert_eq!(server.order().await, None);
        assert!(server.tell(&Report::Serving).is_err());
    }

    #[tokio::test]
    async fn a_guardian_that_does_not_read_is_not_waited_for() {
        let (_guardian, server) = crate::guardian::control::pair().unwrap();
        let server = Guardian::new(server).unwrap();
        let full = (0..1_000_000).find_map(|_| server.tell(&Report::Serving).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
