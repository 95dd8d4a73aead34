//! One `forward` of the configuration as [`crate::upstream`] takes it: how its group behaves, which of a zone's queries
//! it is for, and what a server of it must prove. Pure.

use crate::config::{self, Forward, ReplyCode};
use crate::upstream::{Codes, Endpoint, Identity, Options, Policy, Protocol, Security};
use crate::wire::question::{is_within, to_wire};
use std::time::Duration;

/// The age limit of connections that have none: ten years, which any clock can be ahead.
const ANY_AGE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How the group of `forward` behaves.
pub(super) fn options(forward: &Forward) -> Options {
    Options {
        protocol: match forward.protocol {
            config::Protocol::Tcp => Protocol::Tcp,
            config::Protocol::Udp => Protocol::Udp,
            config::Protocol::Auto => Protocol::Auto,
        },
        policy: match forward.policy {
            config::Policy::LeastLoaded => Policy::LeastLoaded,
            config::Policy::Random => Policy::Random,
            config::Policy::RoundRobin => Policy::RoundRobin,
            config::Policy::Sequential => Policy::Sequential,
        },
        timeout: forward.timeout,
        max_connections: forward.max_connections,
        idle: forward.idle,
        max_age: forward.max_age.unwrap_or(ANY_AGE),
        failover: codes(&forward.failover),
        fail_fast: forward.fail_fast,
        source: forward.source,
        ..Options::default()
    }
}

/// The set of these replies.
pub(super) fn codes(codes: &[ReplyCode]) -> Codes {
    codes.iter().fold(Codes::default(), |set, code| match code.number() {
        Some(number) => set.with(number),
        None => set.with_nodata(),
    })
}

/// A server of `forward` that is spoken to under encryption.
pub(super) fn secure(server: &config::Secure, forward: &Forward) -> Endpoint {
    let files = forward.identity.clone();
    let identity = files.map(|config::Identity { certificate, key }| Identity { certificate, key });
    let (scheme, name, ca) = (server.scheme.name(), server.name.clone(), forward.ca.clone());
    Endpoint::secure(server.address, Security { scheme, name, ca, identity })
}

/// Which of the queries of one zone go to a forward.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Those for names at and below this one, as on the wire; for all of them when `None`.
    pub(super) from: Option<Box<[u8]>>,
    /// But for these.
    pub(super) except: Vec<Box<[u8]>>,
}

impl Share {
    /// The share of `forward` in the zone `name`; `None` when there is no such query.
    pub(super) fn of(forward: &Forward, name: &str) -> Option<Share> {
        let (zone, from) = (to_wire(name), to_wire(&forward.from));
        let all = is_within(&zone, &from);
        if !all && !is_within(&from, &zone) {
            return None;
        }
        let area = if all { zone.clone() } else { from.clone() };
        let except: Vec<Box<[u8]>> = forward.except.iter().map(|name| to_wire(name).into()).collect();
        let (covering, others): (Vec<_>, Vec<_>) = except.into_iter().partition(|zone| is_within(&area, zone));
        let within = others.into_iter().filter(|zone| is_within(zone, &area));
        match (all, covering.is_empty()) {
            (true, true) => Some(Share { from: None, except: within.collect() }),
            (true, false) if zone != from => None,
            // Of what is excepted, `from` itself is not.
            _ => Some(Share { from: Some(from.into()), except: covering.into_iter().chain(within).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn share(zone: &str, from: &str, except: &[&str]) -> Option<Share> {
        let mut forward = Config::default().zones[0].forwards[0].clone();
        forward.from = from.to_owned();
        forward.except = except.iter().map(|name| (*name).to_owned()).collect();
        Share::of(&forward, zone)
    }

    #[test]
    fn a_share_says_only_what_the_zone_leaves_open() {
        let some = |from: Option<&str>, except: &[&str]| {
            let wire = |name: &str| to_wire(name).into();
            Some(Share { from: from.map(wire), except: except.iter().copied().map(wire).collect() })
        };
        for (zone, from, except, expected) in [
            ("example.org", ".", &[][..], some(None, &[])),
            ("example.org", "example.org", &[], some(None, &[])),
            ("example.org", "org", &["com"], some(None, &[])),
            ("example.org", "com", &[], None),
            ("example.org", "xample.org", &[], None),
            ("example.org", "a.example.org", &[], some(Some("a.example.org"), &[])),
            ("example.org", ".", &["a.example.org", "com"], some(None, &["a.example.org"])),
            ("example.org", ".", &["org"], None),
            ("example.org", "example.org", &["org"], some(Some("example.org"), &["org"])),
            (
                "example.org",
                "a.example.org",
                &["b.example.org", "c.a.example.org"],
                some(Some("a.example.org"), &["c.a.example.org"]),
            ),
            (".", "a", &["."], some(Some("a"), &["."])),
            (".", ".", &["."], some(Some("."), &["."])),
        ] {
            assert_eq!(share(zone, from, except), expected, "{zone} {from} {except:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_it_is_by_default() {
        let defaults = options(&Config::default().zones[0].forwards[0]);
        assert_eq!(format!("{defaults:?}"), format!("{:?}", Options::default()));
    }
}
