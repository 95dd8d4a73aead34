//! The data of the demo's authoritative server: a small cluster as CoreDNS would publish it, and `example.org`.
//!
//! Names follow the Kubernetes DNS specification 1.1.0; TTLs are CoreDNS's own: 30 s as kubeadm sets them, 5 s for the
//! SOA record and so for negative answers (RFC 2308 §5).

use hickory_proto::rr::{LowerName, Name, RecordSet, RrKey};
use hickory_proto::serialize::txt::{ParseError, Parser};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// How many pods stand behind the headless Service `cells`: enough not to fit into 512 octets.
pub const CELLS: u8 = 30;

/// Services with a cluster IP: name, IPv4, IPv6 if dual stack. A, AAAA and PTR records are made from these.
const SERVICES: &[(&str, &str, Option<&str>)] = &[
    ("kubernetes.default.svc", "10.96.0.1", None),
    ("kube-dns.kube-system.svc", "10.96.0.10", Some("fd00:10:96::a")),
    ("web.shop.svc", "10.96.14.20", Some("fd00:10:96::e14")),
    ("db.shop.svc", "10.96.14.21", None),
];

/// Named ports: Service, port name, protocol, port. SRV records are made from these.
const PORTS: &[(&str, &str, &str, u16)] = &[
    ("kubernetes.default.svc", "https", "tcp", 443),
    ("kube-dns.kube-system.svc", "dns", "udp", 53),
    ("kube-dns.kube-system.svc", "dns-tcp", "tcp", 53),
    ("kube-dns.kube-system.svc", "metrics", "tcp", 9153),
    ("web.shop.svc", "http", "tcp", 80),
    ("db.shop.svc", "postgresql", "tcp", 5432),
];

/// What every zone begins with.
const APEX: &str = "\
$TTL 30
@ 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
@   NS  ns.dns.cluster.local.
";

/// The records of `cluster.local` that are not made from the tables. `feed` is a Service of type ExternalName: CoreDNS
/// looks its target up and appends it, so the target's addresses stand here too.
const CLUSTER: &str = "\
ns.dns           A     10.96.0.10
dns-version      TXT   \"1.1.0\"
feed.shop.svc    CNAME www.example.org.
www.example.org. A     192.0.2.80
www.example.org. AAAA  2001:db8::80
10-244-1-1.shop.pod A  10.244.1.1
";

/// `example.org`, for everything that lies outside of the cluster. Its long TTL meets the cache's cap.
const EXAMPLE: &str = "\
$TTL 3600
@    5  SOA  ns1 hostmaster 1 7200 1800 86400 5
@       NS   ns1
@       MX   10 mail
@       TXT  \"v=spf1 -all\"
ns1     A    192.0.2.53
www     A    192.0.2.80
www     AAAA 2001:db8::80
mail    A    192.0.2.25
";

/// A zone as the server takes it: its origin and its records.
pub type Zone = (Name, BTreeMap<RrKey, RecordSet>);

/// Why the built-in data is not a zone. A test holds that this does not happen.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the built-in zone {origin}: {error}")]
pub struct Error {
    /// The zone.
    pub origin: String,
    /// What the parser said.
    #[source]
    pub error: ParseError,
}

/// All zones of the demo.
pub fn all() -> Result<Vec<Zone>, Error> {
    let (cluster, reverse) = cluster();
    let [reverse4, reverse6] = reverse;
    [
        ("cluster.local.", cluster),
        ("in-addr.arpa.", reverse4),
        ("ip6.arpa.", reverse6),
        ("example.org.", EXAMPLE.to_owned()),
    ]
    .into_iter()
    .map(|(origin, text)| parse(origin, &text).map_err(|error| Error { origin: origin.to_owned(), error }))
    .collect()
}

fn parse(origin: &str, text: &str) -> Result<Zone, ParseError> {
    Parser::new(text, None, Some(Name::from_ascii(origin)?)).parse()
}

/// Zone file texts: `cluster.local`, and the two reverse zones for what it names.
fn cluster() -> (String, [String; 2]) {
    let mut forward = format!("{APEX}{CLUSTER}");
    let mut reverse = [APEX.to_owned(), APEX.to_owned()];
    let mut host = |name: &str, address: &str| {
        let Ok(ip) = address.parse::<IpAddr>() else { return };
        let (rtype, zone) = if ip.is_ipv4() { ("A", 0) } else { ("AAAA", 1) };
        let _ = writeln!(forward, "{name} {rtype} {address}");
        let _ =
            writeln!(reverse[zone], "{}. PTR {name}.cluster.local.", Name::from(ip).to_ascii().trim_end_matches('.'));
    };
    for (name, v4, v6) in SERVICES {
        host(name, v4);
        v6.iter().for_each(|v6| host(name, v6));
    }
    for i in 1..=CELLS {
        host(&format!("cell-{i}.cells.shop.svc"), &format!("10.244.1.{i}"));
    }
    for i in 1..=CELLS {
        let _ = writeln!(forward, "cells.shop.svc A 10.244.1.{i}");
        let _ = writeln!(forward, "_http._tcp.cells.shop.svc SRV 0 3 8080 cell-{i}.cells.shop.svc");
    }
    for (service, port_name, protocol, port) in PORTS {
        let _ = writeln!(forward, "_{port_name}._{protocol}.{service} SRV 0 100 {port} {service}");
    }
    (forward, reverse)
}

/// The key under which a catalog files `zone`.
pub fn key(zone: &Zone) -> LowerName {
    LowerName::new(&zone.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::RecordType;

    fn count(zone: &Zone, name: &str, rtype: RecordType) -> usize {
        let key = RrKey::new(LowerName::new(&Name::from_ascii(name).unwrap()), rtype);
        zone.1.get(&key).map_or(0, |set| set.records_without_rrsigs().count())
    }

    #[test]
    fn the_built_in_zones_are_zones() {
        let zones = all().unwrap();
        let origins: Vec<String> = zones.iter().map(|z| z.0.to_ascii()).collect();
        assert_eq!(origins, ["cluster.local.", "in-addr.arpa.", "ip6.arpa.", "example.org."]);
        for zone in &zones {
            assert_eq!(count(zone, &zone.0.to_ascii(), RecordType::SOA), 1, "{}", zone.0);
            assert!(!key(zone).is_root());
        }
    }

    #[test]
    fn services_have_addresses_ports_and_names_for_their_addresses() {
        let zones = all().unwrap();
        assert_eq!(count(&zones[0], "web.shop.svc.cluster.local.", RecordType::A), 1);
        assert_eq!(count(&zones[0], "web.shop.svc.cluster.local.", RecordType::AAAA), 1);
        assert_eq!(count(&zones[0], "db.shop.svc.cluster.local.", RecordType::AAAA), 0);
        assert_eq!(count(&zones[0], "_dns._udp.kube-dns.kube-system.svc.cluster.local.", RecordType::SRV), 1);
        assert_eq!(count(&zones[0], "cells.shop.svc.cluster.local.", RecordType::A), usize::from(CELLS));
        assert_eq!(count(&zones[1], "10.0.96.10.in-addr.arpa.", RecordType::PTR), 1);
        let v6 = Name::from("fd00:10:96::a".parse::<IpAddr>().unwrap());
        assert_eq!(count(&zones[2], &v6.to_ascii(), RecordType::PTR), 1);
    }
}
