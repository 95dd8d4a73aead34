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

    /// Where health is served first, and besides, and how long a stop waits.
    pub(super) fn health(
        &mut self,
        given: &file::Health,
        listen: &Listen,
    ) -> (Option<SocketAddr>, Vec<SocketAddr>, Duration) {
        const KEY: &str = "health.also";
        let first = listen.addresses.first().map_or(limits::LISTEN_ADDRESS.into(), SocketAddr::ip);
        let usual = SocketAddr::new(first, limits::HEALTH_PORT);
        let health = given.listen.as_ref().map_or(usual, |text| text.0);
        let mut also: Vec<SocketAddr> = given.also.iter().flatten().map(|text| text.0).collect();
        self.at_most(&mut also, limits::MAX_LISTEN, KEY);
        self.unique(&also, KEY);
        let lame_duck = self.span(&given.lame_duck, limits::LAME_DUCK, limits::LAME_DUCK.default, "health.lameDuck");
        match given.enabled {
            Some(false) if given.listen.is_some() || !also.is_empty() => {
                self.problem("health.enabled", "false, but addresses are listed where health is served");
                (None, Vec::new(), lame_duck)
            }
            Some(false) => (None, Vec::new(), lame_duck),
            _ => (Some(health), also, lame_duck),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, load_str};

    fn config(text: &str) -> Config {
        load_str("f", text).unwrap().config
    }

    /// What is wrong with `text`, without where.
    fn problem(text: &str) -> String {
        load_str("f", text).unwrap_err().to_string()
    }

    #[test]
    fn interface_and_rules_may_be_for_other_addresses_than_are_listened_on() {
        let found = config("network: { addresses: [169.254.20.10, 10.96.0.10] }").network_addresses();
        assert_eq!(found, ["169.254.20.10", "10.96.0.10"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let warnings = |text: &str| load_str("f", text).unwrap().warnings.to_string();
        let said = warnings("network: { addresses: [169.254.20.10, 10.96.0.10] }");
        assert_eq!(said, "f:1:39: network.addresses[1]: nothing listens on 10.96.0.10: what is asked there is refused");
        assert_eq!(
            warnings("listen: { addresses: [0.0.0.0], anyAddress: true }\nnetwork: { addresses: [10.0.0.1] }"),
            ""
        );
        for (list, why) in [
            ("[]", "an empty list; leave the key out for the listen addresses"),
            ("[0.0.0.0]", "0.0.0.0 is no address that an interface can have"),
            ("[224.0.0.1]", "224.0.0.1 is no address that an interface can have"),
            ("[10.0.0.1, 10.0.0.1]", "10.0.0.1 is listed twice"),
        ] {
            assert!(problem(&format!("network: {{ addresses: {list} }}")).ends_with(why), "{list}");
        }
    }

    #[test]
    fn health_may_be_served_in_several_places_or_nowhere() {
        let all = config("health: { listen: '127.0.0.1:1', also: ['127.0.0.1:2', '127.0.0.1:3'], lameDuck: 5s }");
        assert_eq!((all.health, all.health_also.len()), ("127.0.0.1:1".parse().ok(), 2));
        assert_eq!(all.lame_duck, Duration::from_secs(5));
        let none = config("health: { enabled: false }");
        assert_eq!((none.health, none.health_also.len(), none.lame_duck), (None, 0, Duration::ZERO));
        for (text, why) in [
            ("{ enabled: false, listen: '127.0.0.1:1' }", "false, but addresses are listed where health is served"),
            ("{ listen: '127.0.0.1:1', also: ['127.0.0.1:1'] }", "give one of them another port"),
            ("{ lameDuck: 2m }", "must be between 0s and 1m"),
        ] {
            assert!(
                problem(&format!("health: {text}")).ends_with(why),
                "{text}: {}",
                problem(&format!("health: {text}"))
            );
        }
    }

    #[test]
    fn clients_have_as_long_as_is_written() {
        let timeouts = config("listen: { timeouts: { read: 3s, idle: 1m } }").listen.timeouts;
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(timeouts, Timeouts { read: seconds(3), write: None, idle: seconds(60) });
        let why = problem("listen: { timeouts: { write: 0s } }");
        assert_eq!(why, "f:1:30: listen.timeouts.write: 0s is out of range: must be between 1s and 1d");
    }
}
