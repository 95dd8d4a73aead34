//! The guardian: the small parent that owns the network, and watches and replaces the server.
//!
//! Two processes, because one of them parses hostile packets and the other may rewrite the node's firewall. The guardian
//! makes the interface, binds all sockets and keeps them, starts the server with copies of them, asks it over UDP and
//! TCP four times a second, and has packets come here only while it answers. It reads no packet but replies to its own
//! probes, has no runtime and no threads but the log's. The server ([`crate::app`]) has no capability at all.
//!
//! What happens when something dies: the server → the next one has its sockets, with all that is queued in them. The
//! guardian → the kernel takes the live table and a TUN away and kills the server (PDEATHSIG); kube-dns answers by way of
//! the standing table. Both → the same. See [`duty`] for a server that hangs, [`watch`] for a stop, [`instances`] for two
//! guardians on one node.

pub mod control;
pub mod duty;
pub mod ending;
pub mod instances;
pub mod probe;
mod watch;

use crate::network::Plan;
use crate::network::host::{self, Host};
use crate::sys::clock::Moment;
use crate::sys::signal::Signals;
use instances::Instance;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// What there is to guard.
pub struct Job {
    /// What is to be made of the host's network.
    pub plan: Plan,
    /// The server's command line, without the program and without `--supervised N`.
    pub arguments: Vec<OsString>,
    /// Passed to each server: where it keeps what the next one shall know.
    pub text: File,
}

/// Sockets for the server.
pub struct Bound {
    /// Passed on, in this order.
    pub sockets: Vec<OwnedFd>,
    /// Where to ask whether it answers, over UDP and TCP.
    pub listeners: Vec<SocketAddr>,
}

/// Why the guardian cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network cannot be made ours.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The system does not do what it always does.
    #[error("cannot {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Guards until it is told to stop. `bind` is called once the addresses are there, with those that cannot be had.
///
/// Must run on the process's main thread, with `signals` blocked since before there were others.
///
/// # Errors
/// When it cannot start; what was made of the network is taken back. `bind`'s own error passes through.
pub fn run<E: From<Error>>(
    job: Job,
    signals: Signals,
    bind: impl FnOnce(&[IpAddr]) -> Result<Bound, E>,
) -> Result<(), E> {
    let system = |what| move |source| Error::System { what, source };
    let instance = Instance::announce(Moment::now()).map_err(system("announce this instance to others"))?;
    let alone = instance.others().map_err(system("read /proc/net/unix"))?.is_empty();
    let host = Host::prepare(job.plan.clone(), instance.generation(), alone).map_err(Error::from)?;
    let bound = match bind(host.skipped()) {
        Ok(bound) => bound,
        Err(error) => {
            host.leave(alone, false);
            return Err(error);
        }
    };
    watch::Watch::new(job, signals, instance, host, bound).run();
    Ok(())
}
