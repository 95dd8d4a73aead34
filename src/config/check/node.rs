//! What a node's manifests may ask for besides: addresses of the interface, more places for metrics and health, how long a
//! stop and a slow client may take.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Check, overlap};
use crate::config::file;
use crate::config::limits;
use crate::config::text::{Span, Text};
use crate::config::{Listen, Timeouts};

impl Check<'_> {
    /// The addresses of interface and rules, if they are not simply those that are listened on.
    pub(super) fn network_addresses(&mut self, given: &file::Network, listen: &Listen) -> Vec<IpAddr> {
        const KEY: &str = "network.addresses";
        let Some(list) = &given.addresses else { return Vec::new() };
        let mut addresses: Vec<IpAddr> = list.iter().map(|text| text.0).collect();
        if addresses.is_empty() {
            self.problem(KEY, "an empty list; leave the key out for the listen addresses");
        }
        self.at_most(&mut addresses, limits::MAX_LISTEN, KEY);
        self.unique(&addresses, KEY);
        for (i, address) in addresses.iter().enumerate() {
            let odd = address.is_unspecified() || address.is_multicast();
            if odd || matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
                self.problem(&format!("{KEY}[{i}]"), format!("{address} is no address that an interface can have"));
            }
            let serves = |ip: IpAddr| ip == *address || (ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4()));
            if !odd && !listen.addresses.iter().any(|at| serves(at.ip())) {
                let message = format!("nothing listens on {address}: what is asked there is refused");
                self.warnings.push(self.origins.problem(&format!("{KEY}[{i}]"), message));
            }
        }
        addresses
    }

    /// Where metrics are served if that can be; what is among `others` already is left out.
    pub(super) fn metrics_optional(&mut self, given: &file::Metrics, others: &[SocketAddr]) -> Vec<SocketAddr> {
        const KEY: &str = "metrics.optional";
        let mut addresses: Vec<SocketAddr> = given.optional.iter().flatten().map(|text| text.0).collect();
        self.at_most(&mut addresses, limits::MAX_LISTEN, KEY);
        self.unique(&addresses, KEY);
        addresses.retain(|address| !others.iter().any(|other| overlap(address, other)));
        addresses
    }

    /// Where health is served besides, and how long a stop waits.
    pub(super) fn health_besides(&mut self, given: &file::Health) -> (Vec<SocketAddr>, Duration) {
        const KEY: &str = "health.also";
        let mut also: Vec<SocketAddr> = given.also.iter().flatten().map(|text| text.0).collect();
        self.at_most(&mut also, limits::MAX_LISTEN, KEY);
        self.unique(&also, KEY);
        let lame_duck = self.span(&given.lame_duck, limits::LAME_DUCK, limits::LAME_DUCK.default, "health.lameDuck");
        (also, lame_duck)
    }

    /// How long TCP clients may take.
    pub(super) fn timeouts(&mut self, given: &file::Timeouts) -> Timeouts {
        let mut one = |text: &Option<Text<Span>>, name: &str| {
            let key = format!("listen.timeouts.{name}");
            text.as_ref().map(|_| self.span(text, limits::TIMEOUTS, limits::TIMEOUTS.default, &key))
        };
        Timeouts { read: one(&given.read, "read"), write: one(&given.write, "write"), idle: one(&given.idle, "idle") }
    }
}
