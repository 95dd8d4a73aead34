//! Who may ask, and how many connections one client may hold.

use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The networks that may ask; none listed means all, which is right for addresses that only the node itself reaches.
#[derive(Clone, Debug, Default)]
pub struct Acl(Vec<IpNet>);

impl Acl {
    /// Allows `networks`, or everybody when there are none.
    pub fn new(networks: Vec<IpNet>) -> Acl {
        Acl(networks)
    }

    /// Does it let everybody in?
    #[inline]
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// May `client` ask?
    pub fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.is_open() || self.0.iter().any(|net| net.contains(&client))
    }
}

/// How many TCP connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one client address.
    pub per_client: usize,
    /// How long each may take.
    pub patience: Patience,
}

/// How long a TCP client may take while there is room for more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until its first query is there.
    pub read: Duration,
    /// To take an answer.
    pub write: Duration,
    /// Between an answer and the next query.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let usual = Duration::from_secs(10);
        Patience { read: usual, write: usual, idle: usual }
    }
}

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are as many as there may be.
    Total,
    /// This client has as many as it may have.
    Client,
}

/// The connections there are.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    clients: HashMap<IpAddr, usize>,
}

/// One connection's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Connections {
    /// Takes a place for a connection from `client`.
    ///
    /// # Errors
    /// [`Full`] when a limit is reached.
    pub fn take(self: &Arc<Self>, client: IpAddr, limits: &ConnectionLimits) -> Result<Place, Full> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= limits.total {
            return Err(Full::Total);
        }
        let held = counts.clients.get(&client).copied().unwrap_or(0);
        if held >= limits.per_client {
            return Err(Full::Client);
        }
        counts.clients.insert(client, held + 1);
        counts.total += 1;
        Ok(Place { connections: Arc::clone(self), client })
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(held) = counts.clients.get_mut(&self.client) {
            *held -= 1;
            if *held == 0 {
                counts.clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn f11_only_listed_networks_may_ask() {
        let acl = Acl::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (client, allowed) in [
            ("10.1.2.3", true),
            ("11.0.0.1", false),
            ("fd00::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(acl.allows(ip(client)), allowed, "{client}");
        }
        assert!(Acl::default().allows(ip("8.8.8.8")));
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let limits = ConnectionLimits { total: 3, per_client: 2, patience: Patience::default() };
        let connections = Arc::new(Connections::default());
        let (a, b) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let first = connections.take(a, &limits).unwrap();
        let _second = connections.take(a, &limits).unwrap();
        assert_eq!(connections.take(a, &limits).unwrap_err(), Full::Client);
        let _third = connections.take(b, &limits).unwrap();
        assert_eq!(connections.take(b, &limits).unwrap_err(), Full::Total);
        drop(first);
        assert_eq!(connections.total(), 2);
        assert!(connections.take(a, &limits).is_ok());
    }
}
