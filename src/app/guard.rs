//! The daemon as guardian and server: what the guardian needs to know, from the configuration.
//!
//! The guardian reads the configuration once. What it uses of it (addresses, ports, `network`) takes a restart to change;
//! each server reads it anew.

use super::node_cache::{PidFile, Written};
use super::sockets::{self, Sockets};
use super::{Error, last_good, raise_descriptors, start_log, system};
use crate::config::{self, Config, Loaded, Overrides, Source};
use crate::guardian::{self, Bound, Job};
use crate::network::{Firewall, Interface, Kind, Plan};
use crate::sys::signal::{self, Signals};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Guards servers of this configuration until told to stop.
pub(super) fn run(loaded: &Loaded, overrides: &Overrides) -> Result<(), Error> {
    let config = &loaded.config;
    // Ignored, as it may have been inherited, it leaves no children to be waited for: no server's end would be noticed.
    signal::restore(&[Signal::CHILD]);
    // Before the log's thread, which would hear them otherwise.
    let all = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2];
    let signals = Signals::new(&all).map_err(system("signals"))?;
    let log = start_log(config)?;
    raise_descriptors(config);
    let text = last_good::create(&loaded.text).map_err(system("a memory file"))?;
    let written = Written::begin(loaded.source.as_ref(), loaded.rendered.as_deref());
    // Only the server goes on writing it.
    drop(written);
    let pid_file = Arc::new(Mutex::new(None));
    let for_sockets = config.clone();
    let job = Job {
        plan: plan(config),
        arguments: arguments(loaded, overrides),
        text: File::from(text),
        bind: Box::new(move |skipped, open| Ok(bind(&for_sockets, skipped, open)?)),
        lame_duck: config.lame_duck,
        serving: pid_file_writer(overrides, &pid_file),
    };
    let result = guardian::run(job, signals);
    drop(pid_file);
    log.flush();
    Ok(result?)
}

/// Writes the file with the process id into `kept`, if one is wanted.
fn pid_file_writer(overrides: &Overrides, kept: &Arc<Mutex<Option<PidFile>>>) -> Box<dyn FnMut()> {
    let path = overrides.node_cache.as_ref().and_then(|over| over.flags.pid_file.clone());
    let kept = Arc::clone(kept);
    Box::new(move || {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = path.as_deref().and_then(PidFile::write);
        }
    })
}

/// The command line of a server. It names the file, so that one that was found where it is looked for is followed even
/// by a server that could not read it at its start.
fn arguments(loaded: &Loaded, overrides: &Overrides) -> Vec<OsString> {
    if let Some(over) = &overrides.node_cache {
        return std::iter::once("node-cache".into()).chain(over.arguments.iter().cloned()).collect();
    }
    let mut arguments: Vec<OsString> = vec!["serve".into()];
    if let Some(Source::File(path)) = &loaded.source {
        arguments.extend(["--config".into(), path.into()]);
    }
    for upstream in &overrides.upstream {
        arguments.extend(["--upstream".into(), upstream.into()]);
    }
    arguments
}

/// The sockets, in the order in which they are passed on: first those of DNS.
fn bind(config: &Config, skipped: &[IpAddr], open: bool) -> Result<Bound, sockets::Error> {
    let Sockets { udp, tcp, metrics, health } = Sockets::make_for_server(config, skipped, open)?;
    let listeners: Vec<SocketAddr> = tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let workers = udp.len() / listeners.len().max(1);
    let addresses =
        listeners.iter().flat_map(|&address| std::iter::repeat_n(address, workers)).chain(listeners.clone());
    let dns = udp.into_iter().map(OwnedFd::from).chain(tcp.into_iter().map(OwnedFd::from)).zip(addresses).collect();
    Ok(Bound { dns, http: metrics.into_iter().chain(health).map(OwnedFd::from).collect(), listeners, open })
}

/// The part of the configuration that the guardian sees to.
fn plan(config: &Config) -> Plan {
    let network = &config.network;
    Plan {
        addresses: config.network_addresses(),
        port: config.listen.port,
        health: config.health.filter(|address| !address.ip().to_canonical().is_loopback()),
        interface: network.interface.as_ref().map(|interface| Interface {
            name: interface.name.clone(),
            kind: match interface.kind {
                config::InterfaceKind::Auto => Kind::Auto,
                config::InterfaceKind::Dummy => Kind::Dummy,
                config::InterfaceKind::Tun => Kind::Tun,
            },
        }),
        firewall: match network.firewall {
            config::Firewall::Auto => Firewall::Auto,
            config::Firewall::Nftables => Firewall::Nftables,
            config::Firewall::Iptables => Firewall::Iptables,
            config::Firewall::None => Firewall::None,
        },
        fail_open: network.fail_open.is_some(),
        keep: network.interface.as_ref().is_some_and(|interface| interface.keep),
    }
}
