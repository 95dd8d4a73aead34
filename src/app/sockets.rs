//! Every socket that the daemon listens on: bound here, or inherited from a guardian that bound them here.
//!
//! All are had before anything is served, so that a port that is taken is known while it costs nobody anything. Sockets
//! that are inherited are known by what they are bound to, not by their place in a list: a server that was started for
//! another configuration notices.

use crate::admin;
use crate::config::{Config, Workers};
use crate::observe::holder::holder;
use crate::observe::queries::{Label, Proto};
use crate::sys::socket;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketType, getsockname};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Why sockets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A DNS socket cannot be had.
    #[error("cannot bind {address} ({proto}): {source}{hint}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// `udp` or `tcp`.
        proto: &'static str,
        /// What the kernel says.
        source: io::Error,
        /// What can be done about it.
        hint: String,
    },
    /// The port of metrics or health cannot be had.
    #[error(transparent)]
    Admin(#[from] admin::listen::Error),
    /// A descriptor that was passed is no socket that can be used.
    #[error("cannot use inherited descriptor {number}: {source}; only nodens starts servers with --supervised")]
    Descriptor {
        /// Which of them, from 0.
        number: usize,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A socket that was passed is not one of the configuration.
    #[error("inherited socket at {address} ({proto}) is not in the configuration; restart nodens to bind anew")]
    Stranger {
        /// Where it is bound.
        address: SocketAddr,
        /// `udp` or `tcp`.
        proto: &'static str,
    },
    /// One of the two transports of an address was not passed, or no address at all.
    #[error("no inherited socket at {address} ({proto}); restart nodens to bind anew")]
    Missing {
        /// Where it should be bound.
        address: SocketAddr,
        /// `udp` or `tcp`.
        proto: &'static str,
    },
}

/// How sockets are made.
type Makers = (fn(SocketAddr) -> io::Result<UdpSocket>, fn(SocketAddr) -> io::Result<TcpListener>);

/// Every socket that the daemon listens on.
#[derive(Debug, Default)]
pub struct Sockets {
    /// DNS over UDP, one for each worker.
    pub udp: Vec<UdpSocket>,
    /// DNS over TCP, one for each address.
    pub tcp: Vec<TcpListener>,
    /// `/metrics`.
    pub metrics: Vec<TcpListener>,
    /// `/health` and `/ready`.
    pub health: Vec<TcpListener>,
}

impl Sockets {
    /// Binds everything that `config` asks for.
    ///
    /// # Errors
    /// At the first address or port that cannot be had.
    pub fn bind(config: &Config) -> Result<Sockets, Error> {
        Sockets::make(config, &[], (socket::udp, socket::tcp))
    }

    /// The same by a guardian, but for the addresses in `skip`, which this host cannot have. Unless `open`, nothing comes
    /// to the DNS sockets yet: see [`socket::open`].
    ///
    /// # Errors
    /// As for [`Sockets::bind`].
    pub fn make_for_server(config: &Config, skip: &[IpAddr], open: bool) -> Result<Sockets, Error> {
        let make: Makers = if open { (socket::udp, socket::tcp) } else { (socket::udp_closed, socket::tcp_closed) };
        Sockets::make(config, skip, make)
    }

    fn make(config: &Config, skip: &[IpAddr], (udp, tcp): Makers) -> Result<Sockets, Error> {
        let wanted = |address: &SocketAddr| !skip.contains(&address.ip());
        let mut sockets = Sockets::default();
        for address in dns_addresses(config).into_iter().filter(wanted) {
            for _ in 0..workers(config) {
                sockets.udp.push(udp(address).map_err(|e| cannot_bind(address, Proto::Udp, e))?);
            }
            sockets.tcp.push(tcp(address).map_err(|e| cannot_bind(address, Proto::Tcp, e))?);
        }
        for &address in config.metrics.iter().filter(|address| wanted(address)) {
            sockets.metrics.push(admin::bind(address, "metrics.listen")?);
        }
        let health = config.health.map(|address| (address, "health.listen"));
        let also = config.health_also.iter().map(|&address| (address, "health.also"));
        for (address, key) in health.into_iter().chain(also).filter(|(address, _)| wanted(address)) {
            sockets.health.push(admin::bind(address, key)?);
        }
        // The last, lest they take what something needs.
        for &address in config.metrics_optional.iter().filter(|address| wanted(address)) {
            match admin::bind(address, "metrics.optional") {
                Ok(listener) => sockets.metrics.push(listener),
                Err(error) => tracing::warn!(%error, "metrics are not served there"),
            }
        }
        Ok(sockets)
    }

    /// All of them, to be passed on.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let listeners = self.tcp.iter().chain(&self.metrics).chain(&self.health);
        self.udp.iter().map(AsFd::as_fd).chain(listeners.map(AsFd::as_fd)).collect()
    }

    /// Sorts out what [`Sockets::descriptors`] of another process gave to this one.
    ///
    /// An address of `config` may be missing altogether: the host cannot have it then.
    ///
    /// # Errors
    /// When they are not the sockets of `config`.
    pub fn from_inherited(config: &Config, descriptors: Vec<OwnedFd>) -> Result<Sockets, Error> {
        let dns = dns_addresses(config);
        let mut sockets = Sockets::default();
        for (number, fd) in descriptors.into_iter().enumerate() {
            let unfit = |source: io::Error| Error::Descriptor { number, source };
            let (proto, address) = identify(&fd).map_err(unfit)?;
            match proto {
                Proto::Udp if dns.contains(&address) => sockets.udp.push(fd.into()),
                Proto::Tcp if dns.contains(&address) => sockets.tcp.push(fd.into()),
                Proto::Tcp if config.metrics.contains(&address) || config.metrics_optional.contains(&address) => {
                    sockets.metrics.push(fd.into())
                }
                Proto::Tcp if config.health == Some(address) || config.health_also.contains(&address) => {
                    sockets.health.push(fd.into());
                }
                _ => return Err(Error::Stranger { address, proto: proto.name() }),
            }
        }
        let tcp = sockets.addresses();
        let udp: Vec<SocketAddr> = sockets.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        for &address in &dns {
            let proto = match (udp.contains(&address), tcp.contains(&address)) {
                (true, false) => Proto::Tcp,
                (false, true) => Proto::Udp,
                _ => continue,
            };
            return Err(Error::Missing { address, proto: proto.name() });
        }
        match dns.first().filter(|_| tcp.is_empty()) {
            Some(&address) => Err(Error::Missing { address, proto: Proto::Tcp.name() }),
            None => Ok(sockets),
        }
    }

    /// Where DNS is answered.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

/// Where `config` wants DNS to be answered.
pub(super) fn dns_addresses(config: &Config) -> Vec<SocketAddr> {
    config.listen.addresses.clone()
}

/// UDP sockets for each address.
fn workers(config: &Config) -> usize {
    match config.listen.workers {
        Workers::Auto => std::thread::available_parallelism().map_or(1, |n| n.get().min(2)),
        Workers::Count(n) => usize::try_from(n).unwrap_or(1),
    }
}

/// What kind of socket a descriptor is, and where it is bound.
fn identify(fd: &OwnedFd) -> io::Result<(Proto, SocketAddr)> {
    let proto = match socket_type(fd)? {
        SocketType::DGRAM => Proto::Udp,
        SocketType::STREAM if socket_acceptconn(fd)? => Proto::Tcp,
        _ => return Err(io::Error::other("neither a UDP socket nor a TCP listener")),
    };
    let address = SocketAddr::try_from(getsockname(fd)?)?;
    Ok((proto, address))
}

fn cannot_bind(address: SocketAddr, proto: Proto, source: io::Error) -> Error {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = holder(proto, address).unwrap_or_else(|| "another process".to_owned());
            format!("; {holder} holds it: stop that, or change listen.addresses or listen.port")
        }
        io::ErrorKind::AddrNotAvailable => {
            "; no interface of this host has the address: add it, or change listen.addresses".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 take CAP_NET_BIND_SERVICE: grant it, or change listen.port".to_owned()
        }
        _ => String::new(),
    };
    Error::Bind { address, proto: proto.name(), source, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;
    use std::os::unix::net::UnixDatagram;

    /// A configuration for `addresses` whose ports are free.
    fn config(addresses: &str) -> Config {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (metrics, health) = (free(), free());
        let text = format!(
            "listen: {{ addresses: {addresses}, port: {}, workers: 3 }}\nmetrics: {{ listen: [\"{metrics}\"] }}\n\
             health: {{ listen: \"{health}\" }}\n",
            free().port()
        );
        load_str("test", &text).unwrap().config
    }

    fn passed(sockets: &Sockets) -> Vec<OwnedFd> {
        sockets.descriptors().into_iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect()
    }

    #[test]
    fn sockets_that_are_passed_on_are_sorted_out_whatever_their_order() {
        let config = config("[127.0.0.1, 127.0.0.2]");
        let bound = Sockets::bind(&config).unwrap();
        assert_eq!(bound.descriptors().len(), 2 * 3 + 2 + 1 + 1);
        let mut descriptors = passed(&bound);
        descriptors.reverse();
        let sockets = Sockets::from_inherited(&config, descriptors).unwrap();
        assert_eq!((sockets.udp.len(), sockets.tcp.len(), sockets.metrics.len()), (6, 2, 1));
        let mut addresses = sockets.addresses();
        addresses.reverse();
        assert_eq!(addresses, dns_addresses(&config));
        assert_eq!(sockets.metrics[0].local_addr().unwrap(), config.metrics[0]);
        assert_eq!(sockets.health[0].local_addr().unwrap(), config.health.unwrap());
    }

    #[test]
    fn g16_addresses_that_the_host_cannot_have_are_left_out() {
        let mut config = config("[127.0.0.1, 192.0.2.1]");
        let there = "192.0.2.1".parse().unwrap();
        config.metrics.push(SocketAddr::new(there, 9253));
        config.health = Some(SocketAddr::new(there, 8080));
        assert!(Sockets::bind(&config).unwrap_err().to_string().contains("no interface of this host"));
        let bound = Sockets::make_for_server(&config, &[there], true).unwrap();
        assert_eq!((bound.udp.len(), bound.tcp.len(), bound.metrics.len(), bound.health.is_empty()), (3, 1, 1, true));
        let sockets = Sockets::from_inherited(&config, passed(&bound)).unwrap();
        assert_eq!(sockets.addresses(), [SocketAddr::new("127.0.0.1".parse().unwrap(), config.listen.port)]);
    }

    #[test]
    fn sockets_of_another_configuration_are_noticed() {
        let config = config("[127.0.0.1]");
        let bound = Sockets::bind(&config).unwrap();
        let dns = SocketAddr::new("127.0.0.1".parse().unwrap(), config.listen.port);
        let says = |config: &Config, descriptors: Vec<OwnedFd>| {
            Sockets::from_inherited(config, descriptors).unwrap_err().to_string()
        };
        let mut other = config.clone();
        other.listen.addresses[0].set_port(1);
        let stranger = format!("inherited socket at {dns} (udp) is not in the configuration");
        assert!(says(&other, passed(&bound)).starts_with(&stranger));
        let mut other = config.clone();
        other.metrics.clear();
        let stranger = format!("inherited socket at {} (tcp) is not in the configuration", config.metrics[0]);
        assert!(says(&other, passed(&bound)).starts_with(&stranger));
        // Three workers, then the listener.
        let missing = |proto: &str| format!("no inherited socket at {dns} ({proto})");
        assert!(says(&config, passed(&bound).into_iter().take(3).collect()).starts_with(&missing("tcp")));
        assert!(says(&config, passed(&bound).into_iter().skip(3).collect()).starts_with(&missing("udp")));
        assert!(says(&config, Vec::new()).starts_with(&missing("tcp")));
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(says(&config, vec![file]).starts_with("cannot use inherited descriptor 0: "));
        let unix = OwnedFd::from(UnixDatagram::unbound().unwrap());
        assert!(says(&config, vec![unix]).starts_with("cannot use inherited descriptor 0: "));
        let unbound = std::net::TcpStream::connect(dns).unwrap();
        assert!(says(&config, vec![unbound.into()]).contains("neither a UDP socket nor a TCP listener"));
    }
}
