//! The name servers of a resolv.conf. Its search list and options concern stub resolvers, not a forwarder.
//!
//! Lines are read one by one, so that a bad one costs itself alone. What points back at nodens is left out: kubelet
//! and systemd may well write our own address into the file that we are told to forward to.

use std::net::SocketAddr;

use hickory_resolver::system_conf::parse_resolv_conf;

use crate::config::limits;

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameServers {
    /// The servers, in the order of the file, each once; none is possible.
    pub servers: Vec<SocketAddr>,
    /// What was passed over and why, one line each.
    pub skipped: Vec<String>,
}

/// Reads the name servers in `text`, leaving out those in `own`, the addresses nodens listens on.
pub fn name_servers(text: &str, own: &[SocketAddr]) -> NameServers {
    let mut found = NameServers::default();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| l.split_whitespace().next() == Some("nameserver")) {
        let server = parse_resolv_conf(line).ok().and_then(|(config, _)| Some(config.name_servers().first()?.ip));
        let why = match server.map(|ip| SocketAddr::new(ip, limits::UPSTREAM_PORT)) {
            None => "not an IP address",
            Some(server) if is_among(server, own) => "nodens itself listens there",
            Some(server) if server.ip().is_unspecified() => "a wildcard address",
            Some(SocketAddr::V6(server)) if server.ip().is_unicast_link_local() => {
                "link-local: its interface is not known"
            }
            Some(server) if found.servers.contains(&server) => continue,
            Some(_) if found.servers.len() == limits::MAX_SERVERS => "too many servers",
            Some(server) => {
                found.servers.push(server);
                continue;
            }
        };
        if found.skipped.len() < limits::MAX_PROBLEMS {
            let line: String = line.trim().chars().take(80).collect();
            found.skipped.push(format!("line {}: {line}: {why}", i + 1));
        }
    }
    found
}

/// Whether `server` is one of `own`, however it is written: `::ffff:10.0.0.1` is 10.0.0.1.
pub fn is_among(server: SocketAddr, own: &[SocketAddr]) -> bool {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    own.iter().any(|&own| plain(own) == plain(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_come_from_the_good_lines_of_a_resolv_conf() {
        let text = "# made by hand\nsearch .. bad!\nnameserver 10.0.0.1\nnameserver nonsense\n nameserver  fd00::1 # v6\n\
                    nameserver 169.254.20.10\nnameserver 10.0.0.1\noptions ndots:zz\nnameserver 0.0.0.0\nnameserver\nnameserver fe80::1\n\
                    nameserver ::ffff:169.254.20.10\nnameserver ::\n";
        let own: Vec<SocketAddr> = vec!["169.254.20.10:53".parse().unwrap()];
        let found = name_servers(text, &own);
        let expected: Vec<SocketAddr> = vec!["10.0.0.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()];
        assert_eq!(found.servers, expected);
        let skipped = [
            "line 4: nameserver nonsense: not an IP address",
            "line 6: nameserver 169.254.20.10: nodens itself listens there",
            "line 9: nameserver 0.0.0.0: a wildcard address",
            "line 10: nameserver: not an IP address",
            "line 11: nameserver fe80::1: link-local: its interface is not known",
            "line 12: nameserver ::ffff:169.254.20.10: nodens itself listens there",
            "line 13: nameserver ::: a wildcard address",
        ];
        assert_eq!(found.skipped, skipped);
        assert_eq!(name_servers("", &own), NameServers::default());
        let elsewhere: Vec<SocketAddr> = vec!["127.0.0.1:5300".parse().unwrap()];
        assert_eq!(name_servers("nameserver 127.0.0.1", &elsewhere).servers.len(), 1);
    }
}
