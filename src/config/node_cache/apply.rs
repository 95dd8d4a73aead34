//! node-cache's flags, laid over what its Corefile says, so that a mistake in one of them is reported under its name.

use std::net::IpAddr;

use super::{Over, missing_service};
use crate::config::file::{self, File};
use crate::config::limits;
use crate::config::network::InterfaceName;
use crate::config::shape::Origins;
use crate::config::text::{Size, Text};

/// What of the container's memory the cache may take: connections, buffers and the allocator need the rest.
const SHARE: u64 = 3;

/// Puts what `over` says over `file`.
pub(in crate::config) fn apply(file: &mut File, over: &Over, origins: &mut Origins) {
    let Over { flags, memory, .. } = over;
    let mut said = |key: &str, argument: String| {
        origins.arguments.insert(key.to_owned(), argument);
    };
    let network = &mut file.network;
    if !flags.local_ips.is_empty() {
        let list: Vec<String> = flags.local_ips.iter().map(IpAddr::to_string).collect();
        said("network.addresses", format!("-localip {}", list.join(",")));
        network.addresses = Some(flags.local_ips.iter().copied().map(Text).collect());
    }
    network.interface.manage = Some(flags.setup_interface);
    network.interface.keep = Some(flags.skip_teardown);
    network.interface.name = Some(Text(InterfaceName(flags.interface_name.clone())));
    said("network.interface", format!("-interfacename {}", flags.interface_name));
    let zones = file.zones.iter().flatten();
    let forwards = zones.flat_map(|zone| zone.forward.iter().chain(zone.further.iter().flatten()));
    let targets = forwards.flat_map(|forward| forward.to.iter().flatten());
    // Who captures packets that he cannot answer keeps them from those who can.
    let complete = targets.into_iter().all(|target| missing_service(&target.0).is_none());
    if !flags.setup_iptables || !complete {
        let missing = || format!("-upstreamsvc {}", flags.service);
        said("network.firewall", if complete { "-setupiptables=false".to_owned() } else { missing() });
        network.firewall = Some(file::Firewall::None);
    } else {
        network.firewall = Some(file::Firewall::Auto);
    }
    if let Some(address) = flags.metrics {
        said("metrics.optional", format!("-metrics-listen-address {address}"));
        file.metrics.optional = Some(vec![Text(address)]);
    }
    file.metrics.coredns_names = Some(true);
    if let Some(memory) = memory {
        let most = (memory / SHARE).max(limits::MAX_BYTES.min);
        let wanted = file.cache.max_bytes.as_ref().map_or(limits::MAX_BYTES.default, |text| text.0.0);
        file.cache.max_bytes = Some(Text(Size(wanted.min(most))));
    }
}
