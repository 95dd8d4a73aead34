//! The guardian: the small parent that owns the network, and watches and replaces the server.
//!
//! Two processes, because one of them parses hostile packets and the other may rewrite the node's firewall. The guardian
//! makes the interface, binds all sockets and keeps them, starts the server with copies of them, asks it over UDP and
//! TCP four times a second, and has packets come here only while it answers. It reads no packet but replies to its own
//! probes, has no runtime and no threads but the log's. The server ([`crate::app`]) has no capability at all.
//!
//! What happens when something dies: the server → the next one has its sockets, with all that is queued in them. The
//! guardian → the kernel takes the live table and a TUN away and kills the server (PDEATHSIG); kube-dns answers by way of
//! the standing table. Both → the same. See [`duty`] for a server that hangs, [`instances`] for two guardians on one
//! node, and `watch` for a stop and for the cache that goes from one instance to the next.

pub mod control;
pub mod duty;
pub mod ending;
pub mod instances;
pub mod probe;
mod server;
mod watch;

use crate::network::Plan;
use crate::network::host::{self, Host};
use crate::sys::clock::Moment;
use crate::sys::signal::Signals;
use crate::sys::{socket, steer};
use instances::Instance;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// What there is to guard.
pub struct Job {
    /// What is to be made of the host's network.
    pub plan: Plan,
    /// The server's command line, without the program and what only its guardian can know.
    pub arguments: Vec<OsString>,
    /// Passed to each server: where it keeps what the next one shall know.
    pub text: File,
    /// Makes the sockets once the addresses are there, but for those that cannot be had. They are open at once, or, with
    /// another instance there, not before a server is ready: it would get no packets of clients from sockets that
    /// nobody reads.
    pub bind: Bind,
    /// How long a stop that nobody takes over from still serves, once `/ready` has fallen.
    pub lame_duck: Duration,
    /// Called when a server serves.
    pub serving: Box<dyn FnMut()>,
}

/// See [`Job::bind`].
pub type Bind = Box<dyn FnMut(&[IpAddr], bool) -> Result<Bound, Failure>>;

/// Any error.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sockets for the server.
pub struct Bound {
    /// Those of DNS, and what they are or shall be bound to.
    pub dns: Vec<(OwnedFd, SocketAddr)>,
    /// The others.
    pub http: Vec<OwnedFd>,
    /// Where to ask whether it answers, over UDP and TCP.
    pub listeners: Vec<SocketAddr>,
    /// Do packets come to those of DNS?
    pub open: bool,
}

impl Bound {
    /// Has packets come.
    fn open(&mut self) -> Result<(), Error> {
        if !self.open {
            for (fd, address) in &self.dns {
                let opened = socket::open(fd.as_fd(), *address);
                opened.map_err(|source| Error::Open { address: *address, source })?;
            }
            self.open = true;
        }
        Ok(())
    }

    /// Has packets and connections go to the sockets of another instance from now on. What is queued here is lost. Those
    /// of HTTP stay: connections are led to the instance that came last.
    fn close(&mut self) -> Result<(), Error> {
        let closed = |(old, address): &(OwnedFd, SocketAddr)| {
            let address = *address;
            let new = if socket::is_datagram(old) {
                socket::udp_closed(address).map(OwnedFd::from)
            } else {
                socket::tcp_closed(address).map(OwnedFd::from)
            };
            new.map(|new| (new, address)).map_err(|source| Error::Close { address, source })
        };
        let closed = self.dns.iter().map(closed).collect::<Result<_, _>>()?;
        for (fd, address) in std::mem::replace(&mut self.dns, closed) {
            // What fails leaves the group when it is closed, a moment later.
            let left = if socket::is_datagram(&fd) {
                socket::retire(&UdpSocket::from(fd))
            } else {
                steer::lead_away(&fd).map(drop)
            };
            if let Err(error) = left {
                tracing::warn!(%address, %error, "cannot lead packets to the other instance");
            }
        }
        self.open = false;
        Ok(())
    }
}

/// Why the guardian cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network cannot be made ours.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// Sockets cannot be had.
    #[error(transparent)]
    Bind(Failure),
    /// The same, where the interface that was to hold their addresses could not be made.
    #[error("{problem}; without that, {source}")]
    Bare {
        /// Why it could not.
        problem: String,
        /// What came of it.
        source: Failure,
    },
    /// The same, noticed later.
    #[error("cannot open the socket at {address}: {source}")]
    Open {
        /// Where.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// Sockets that are not open cannot be had in the place of those that are.
    #[error("cannot close the socket at {address}: {source}")]
    Close {
        /// Where.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// Another instance does what this one cannot.
    #[error("no server stays alive here, and another instance serves")]
    Superfluous,
    /// The system does not do what it always does.
    #[error("cannot {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Guards until it is told to stop. Must run on the process's main thread, with `signals` blocked since before there were
/// others.
///
/// # Errors
/// When it cannot start, or not take part; what was made of the network is taken back.
pub fn run(mut job: Job, signals: Signals) -> Result<(), Error> {
    let system = |what| move |source| Error::System { what, source };
    let instance = Instance::announce(Moment::now()).map_err(system("announce this instance to others"))?;
    let alone = instance.others().map_err(system("read /proc/net/unix"))?.is_empty();
    let host = Host::prepare(job.plan.clone(), instance.generation(), alone)?;
    match (job.bind)(host.skipped(), alone) {
        Ok(bound) => watch::Watch::new(job, signals, instance, host, bound).run(),
        Err(source) => {
            let status = host.status();
            let error = if status.interface_up {
                Error::Bind(source)
            } else {
                Error::Bare { problem: status.problem.clone(), source }
            };
            host.leave(alone, false);
            Err(error)
        }
    }
}
