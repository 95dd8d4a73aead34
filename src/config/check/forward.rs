//! Whom a zone's queries go to: `forward`, and the `further` ones beside it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{Check, count, is_same};
use crate::config::address::{Name, Secure, Target};
use crate::config::file::{self, ReplyCode};
use crate::config::limits;
use crate::config::text::{Span, Text};
use crate::config::{Config, Forward, Identity};

/// The forward that asks `to` and says nothing else.
pub(super) fn plain(to: Vec<Target>) -> Forward {
    Forward {
        to,
        protocol: file::Protocol::default(),
        policy: file::Policy::default(),
        timeout: limits::TIMEOUT.default,
        max_connections: count(None, limits::MAX_CONNECTIONS),
        ca: None,
        identity: None,
        from: ".".to_owned(),
        except: Vec::new(),
        next: Vec::new(),
        failover: Vec::new(),
        fail_fast: false,
        max_concurrent: None,
        idle: limits::IDLE.default,
        max_age: Some(limits::MAX_AGE.default),
        source: None,
    }
}

impl Check<'_> {
    /// The forwards of a zone of these `names`, in order.
    pub(super) fn forwards(&mut self, zone: &file::Zone, names: &[String], key: &str) -> Vec<Forward> {
        let mut further: Vec<&file::Forward> = zone.further.iter().flatten().collect();
        let at = format!("{key}.further");
        self.at_most(&mut further, limits::MAX_FORWARDS, &at);
        if zone.forward.is_none() && !further.is_empty() && !self.is_suspect(&format!("{key}.forward")) {
            self.problem(&at, "stands without forward: write the first of them there");
        }
        let further = further.into_iter().enumerate().map(|(i, forward)| (forward, format!("{at}[{i}]")));
        let first = zone.forward.iter().map(|forward| (forward, format!("{key}.forward")));
        let given: Vec<_> = first.chain(further).collect();
        let last = given.len().saturating_sub(1);
        let mut forwards = Vec::new();
        for (i, (given, key)) in given.into_iter().enumerate() {
            let forward = self.forward(given, &key);
            if i == last && !forward.next.is_empty() {
                self.warning(&format!("{key}.next"), "has no effect: no forward comes after this one");
            }
            let fits = |name: &String| is_below(name, &forward.from) || is_below(&forward.from, name);
            if !names.iter().any(fits) {
                let message = format!("no name of this zone is at or below {}: nobody is asked", forward.from);
                self.warning(&format!("{key}.from"), message);
            }
            forwards.push(forward);
        }
        forwards
    }

    fn forward(&mut self, given: &file::Forward, key: &str) -> Forward {
        let mut to: Vec<Target> = given.to.iter().flatten().map(|text| text.0.clone()).collect();
        let at = format!("{key}.to");
        if given.to.is_some() && to.is_empty() {
            self.problem(&at, "an empty list: nobody would be asked");
        }
        self.at_most(&mut to, limits::MAX_SERVERS, &at);
        self.unique(&to, &at);
        let mut except: Vec<String> = given.except.iter().flatten().map(|Text(Name(name))| name.clone()).collect();
        self.at_most(&mut except, limits::MAX_EXCEPT, &format!("{key}.except"));
        let failover = given.failover.clone().unwrap_or_default();
        if let Some(n) = failover.iter().position(|code| *code == ReplyCode::NoError) {
            let message = "NOERROR is no failure; for answers without data write NODATA";
            self.problem(&format!("{key}.failover[{n}]"), message);
        }
        let identity = self.identity(given, key);
        self.encrypted(given, &to, key);
        let source = self.source(given, &to, key);
        Forward {
            protocol: given.protocol.unwrap_or_default(),
            policy: given.policy.unwrap_or_default(),
            timeout: self.span(&given.timeout, limits::TIMEOUT, limits::TIMEOUT.default, &format!("{key}.timeout")),
            max_connections: count(given.max_connections, limits::MAX_CONNECTIONS),
            ca: given.ca.as_ref().map(PathBuf::from),
            identity,
            from: given.from.as_ref().map_or_else(|| ".".to_owned(), |Text(Name(name))| name.clone()),
            except,
            next: given.next.clone().unwrap_or_default(),
            failover,
            fail_fast: given.fail_fast.unwrap_or_default(),
            max_concurrent: Some(count(given.max_concurrent, limits::MAX_CONCURRENT)).filter(|most| *most > 0),
            idle: self.span(&given.idle, limits::IDLE, limits::IDLE.default, &format!("{key}.idle")),
            max_age: match given.max_age {
                Some(Text(Span(never))) if never.is_zero() => None,
                _ => {
                    Some(self.span(&given.max_age, limits::MAX_AGE, limits::MAX_AGE.default, &format!("{key}.maxAge")))
                }
            },
            source,
            to,
        }
    }

    /// Who we prove to be.
    fn identity(&mut self, given: &file::Forward, key: &str) -> Option<Identity> {
        match (&given.certificate, &given.key) {
            (Some(certificate), Some(secret)) => Some(Identity { certificate: certificate.into(), key: secret.into() }),
            (None, None) => None,
            (Some(_), None) => {
                self.problem(&format!("{key}.certificate"), "stands without key: write the file of its private key");
                None
            }
            (None, Some(_)) => {
                self.problem(&format!("{key}.key"), "stands without certificate: write the file that it belongs to");
                None
            }
        }
    }

    /// Files that only matter to servers that are spoken to under encryption.
    fn encrypted(&mut self, given: &file::Forward, to: &[Target], key: &str) {
        // Servers that were left out because they are wrong may have been the ones it is for.
        let known = !to.is_empty() && !self.is_suspect(&format!("{key}.to"));
        let mut in_vain = known && to.iter().all(|target| !matches!(target, Target::Secure(_)));
        let files = [
            ("ca", &given.ca, "ca.crt"),
            ("certificate", &given.certificate, "tls.crt"),
            ("key", &given.key, "tls.key"),
        ];
        for (name, path, example) in files {
            let Some(path) = path.as_deref().map(Path::new) else { continue };
            let key = format!("{key}.{name}");
            if !path.is_absolute() || path.file_name().is_none() {
                self.problem(&key, format!("must be the absolute path of a file, such as /etc/nodens/{example}"));
            }
            if std::mem::take(&mut in_vain) {
                self.problem(&key, "has no effect: no server of this forward is spoken to under encryption (tls://)");
            }
        }
    }

    /// The address that queries are sent from.
    fn source(&mut self, given: &file::Forward, to: &[Target], key: &str) -> Option<IpAddr> {
        let source = given.source_address.as_ref()?.0.to_canonical();
        let at = format!("{key}.sourceAddress");
        if source.is_unspecified() || source.is_multicast() {
            self.problem(&at, format!("{source} is no address to send from; leave it out to let the kernel choose"));
            return None;
        }
        let address = |target: &Target| match target {
            Target::Address(server) | Target::Secure(Secure { address: server, .. }) => Some(*server),
            _ => None,
        };
        let apart = |server: &SocketAddr| server.is_ipv4() != source.is_ipv4();
        if let Some(server) = to.iter().filter_map(address).find(apart) {
            let [ours, theirs] = if source.is_ipv4() { ["IPv4", "IPv6"] } else { ["IPv6", "IPv4"] };
            self.problem(&at, format!("{source} is {ours} and {server} is {theirs}: nothing can be sent there"));
        }
        Some(source)
    }

    /// No server asked may be ourselves.
    pub(super) fn loops(&mut self, config: &Config) {
        for (z, zone) in config.zones.iter().enumerate() {
            for (f, forward) in zone.forwards.iter().enumerate() {
                let key = match f.checked_sub(1) {
                    None => format!("zones[{z}].forward"),
                    Some(f) => format!("zones[{z}].further[{f}]"),
                };
                for (t, target) in forward.to.iter().enumerate() {
                    let (Target::Address(server) | Target::Secure(Secure { address: server, .. })) = target else {
                        continue;
                    };
                    let ours = |a: &SocketAddr| a.port() == server.port() && is_same(a.ip(), server.ip());
                    if config.listen.addresses.iter().any(ours) {
                        let message =
                            format!("{server} is where nodens itself listens: queries would go round in circles");
                        self.problem(&format!("{key}.to[{t}]"), message);
                    }
                }
            }
        }
    }
}

/// Is `name` `zone` itself or below it? Both as the configuration holds them.
fn is_below(name: &str, zone: &str) -> bool {
    zone == "." || name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
