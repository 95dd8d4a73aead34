//! Our nftables tables in network namespaces: as `nft` lists them, as others meddle with them, and as packets meet them.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "all of this is a test")]

mod support;

use netns::{Other, isolated, run};
use nodens::network::netlink::{Events, Netlink};
use nodens::network::nftables::{self, Error, Live, inspect, standing};
use nodens::network::{Match, PROBE_V4, PROBE_V6};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use socket2::{Domain, Protocol, Socket, Type};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::DEADLINE;

/// The address of each family that is captured.
const V4: &str = "169.254.20.10";
const V6: &str = "fd00::20:10";

/// A network of its own for a test.
mod netns {
    use super::support::process::{can_run, skip};
    use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    /// Runs `body` in a thread that is in a network namespace of its own; skips it where that is not to be had, or one
    /// of `tools` is not.
    #[expect(deprecated, reason = "what is unsafe about it is leaving a table of descriptors, which this does not")]
    pub(crate) fn isolated(tools: &[&str], body: impl FnOnce() + Send) {
        if !tools.iter().all(|tool| can_run(tool)) {
            return;
        }
        let in_thread = || {
            if rustix::thread::unshare(UnshareFlags::NEWNET).is_err() {
                return skip("needs root, for a network namespace");
            }
            run("ip link set lo up");
            body();
        };
        let result = thread::scope(|scope| scope.spawn(in_thread).join());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }

    /// Runs `line` by the shell in this thread's namespace, and returns what it printed; panics when it fails.
    pub(crate) fn run(line: &str) -> String {
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Another network namespace, which is there until this is dropped.
    pub(crate) struct Other {
        keeper: Child,
    }

    impl Other {
        pub(crate) fn new() -> Other {
            let mut command = Command::new("unshare");
            command.args(["-n", "sh", "-c", "ip link set lo up && echo there && exec cat"]);
            let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(keeper.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "there\n");
            Other { keeper }
        }

        pub(crate) fn pid(&self) -> u32 {
            self.keeper.id()
        }

        /// Runs `body` there.
        pub(crate) fn within<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
            let namespace = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
            let in_thread = || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                body()
            };
            let result = thread::scope(|scope| scope.spawn(in_thread).join());
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }
    }

    impl Drop for Other {
        fn drop(&mut self) {
            let _ = self.keeper.kill();
            let _ = self.keeper.wait();
        }
    }
}

fn captured() -> Match {
    Match {
        addresses: vec![V4.parse().unwrap(), V6.parse().unwrap()],
        port: 53,
        health: Some(format!("{V4}:8080").parse().unwrap()),
    }
}

fn endpoints(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|endpoint| endpoint.parse().unwrap()).collect()
}

fn ruleset() -> String {
    run("nft list ruleset")
}

/// How `nft` lists `text` after reading it.
fn as_nft_has_it(text: &str) -> String {
    let mut child = Command::new("unshare")
        .args(["-n", "sh", "-c", "nft -f - && nft list ruleset"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft does not read {text}");
    String::from_utf8(output.stdout).unwrap()
}

/// A listing without what only an owned table has; `nft` cannot leave one behind to compare with.
fn without_owner(listing: &str) -> String {
    let lines = listing.lines().filter(|line| line.trim() != "flags owner");
    let plain: Vec<&str> = lines.map(|line| line.split(" # progname").next().unwrap()).collect();
    plain.join("\n").replace("{\n\n", "{\n") + "\n"
}

/// The table for [`captured`] that stays; `more` are further chains.
fn live_text(more: &str) -> String {
    format!(
        "table inet nodens-a {{
            chain replies {{
                type filter hook output priority raw;
                ip saddr {V4} udp sport 53 notrack
                ip saddr {V4} tcp sport 53 notrack
                ip6 saddr {V6} udp sport 53 notrack
                ip6 saddr {V6} tcp sport 53 notrack
                ip saddr {V4} tcp sport 8080 notrack
                ip daddr {V4} tcp dport 8080 notrack
                ip saddr 127.116.20.10 ip daddr {V4} udp dport 53 notrack
                ip saddr 127.116.20.10 ip daddr {V4} tcp dport 53 notrack
                ip6 saddr ::1 ip6 daddr {V6} udp dport 53 notrack
                ip6 saddr ::1 ip6 daddr {V6} tcp dport 53 notrack
            }}
            {more}
        }}"
    )
}

#[test]
fn live_table_is_what_nft_would_make() {
    isolated(&["nft"], || {
        let mut live = Live::open("a", &captured()).unwrap();
        assert!(ruleset().contains("flags owner"), "{}", ruleset());
        assert_eq!(without_owner(&ruleset()), as_nft_has_it(&live_text("")));
        live.capture().unwrap();
        let rules = format!(
            "ip daddr {V4} udp dport 53 notrack
             ip daddr {V4} tcp dport 53 notrack
             ip6 daddr {V6} udp dport 53 notrack
             ip6 daddr {V6} tcp dport 53 notrack"
        );
        let capturing = format!(
            "chain prerouting {{
                type filter hook prerouting priority raw;
                {rules}
                ip daddr {V4} tcp dport 8080 notrack
            }}
            chain output {{
                type filter hook output priority raw;
                {rules}
            }}"
        );
        assert_eq!(without_owner(&ruleset()), as_nft_has_it(&live_text(&capturing)));
    });
}

#[test]
fn capturing_and_releasing_may_be_repeated() {
    isolated(&["nft"], || {
        let mut live = Live::open("a", &captured()).unwrap();
        let released = ruleset();
        live.release().unwrap();
        assert_eq!(ruleset(), released);
        live.capture().unwrap();
        let taken = ruleset();
        assert_ne!(taken, released);
        live.capture().unwrap();
        assert_eq!(ruleset(), taken);
        live.release().unwrap();
        live.release().unwrap();
        assert_eq!(ruleset(), released);
        live.capture().unwrap();
        assert_eq!(ruleset(), taken);
    });
}

#[test]
fn live_table_is_its_owners_and_goes_with_it() {
    isolated(&["nft"], || {
        let mut live = Live::open("a", &captured()).unwrap();
        live.capture().unwrap();
        run("nft add table inet foreign && nft flush ruleset");
        for line in ["nft delete table inet nodens-a", "nft flush chain inet nodens-a prerouting"] {
            assert!(!Command::new("sh").args(["-c", line]).output().unwrap().status.success(), "{line}");
        }
        assert!(ruleset().contains("chain prerouting"));
        assert!(!ruleset().contains("foreign"));
        // A second instance has a table of its own, and nobody takes this one over.
        let second = Live::open("b", &captured()).unwrap();
        assert!(matches!(Live::open("a", &captured()), Err(Error::Other { .. } | Error::NotPermitted { .. })));
        let mut netlink = nftables::open().unwrap();
        assert_eq!(inspect::live_tables(&mut netlink).unwrap(), ["nodens-a", "nodens-b"]);
        standing::replace(&mut netlink, &captured(), &[]).unwrap();
        drop(live);
        left_alone_are(&["nodens-b"]);
        drop(second);
        left_alone_are(&[]);
    });
}

/// Waits until of all live tables only `names` are left. Not at once: a test beside this one may just be starting a
/// command, and has all our sockets until that has begun.
fn left_alone_are(names: &[&str]) {
    let mut netlink = nftables::open().unwrap();
    eventually(&format!("only {names:?} are left"), || inspect::live_tables(&mut netlink).unwrap() == names);
}

/// Waits for `condition`.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not so in time: {what}");
        thread::yield_now();
    }
}

#[test]
fn support_is_tried_without_a_trace() {
    isolated(&["nft"], || {
        nftables::supported().unwrap();
        eventually("its table is gone", || ruleset().is_empty());
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets).unwrap();
        let refused = nftables::supported().unwrap_err();
        assert!(matches!(refused, Error::NotPermitted { .. }), "{refused:?}");
        assert!(refused.to_string().contains("CAP_NET_ADMIN"), "{refused}");
    });
}

/// The standing table for [`captured`]: how endpoints are chosen, how packets get there, and whose source is changed.
fn standing_text(choosing: &str, captured: &str, hairpin: &str) -> String {
    format!(
        "table inet nodens-failopen {{
            {choosing}
            chain prerouting {{
                type nat hook prerouting priority -90;
                {captured}
            }}
            chain output {{
                type nat hook output priority -90;
                {captured}
            }}
            chain postrouting {{
                type nat hook postrouting priority 100;
                ip saddr {V4} ct status dnat masquerade
                ip6 saddr {V6} ct status dnat masquerade
                {hairpin}
            }}
            chain replies {{
                type filter hook output priority raw;
                ip saddr {V4} udp sport 53 notrack
                ip saddr {V4} tcp sport 53 notrack
                ip6 saddr {V6} udp sport 53 notrack
                ip6 saddr {V6} tcp sport 53 notrack
            }}
        }}"
    )
}

#[test]
fn standing_table_is_what_nft_would_make() {
    isolated(&["nft"], || {
        let mut netlink = nftables::open().unwrap();
        let (four, six) = (
            format!("ip daddr {V4} udp dport 53 goto endpoints4\nip daddr {V4} tcp dport 53 goto endpoints4"),
            format!("ip6 daddr {V6} udp dport 53 goto endpoints6\nip6 daddr {V6} tcp dport 53 goto endpoints6"),
        );
        let both = "chain endpoints4 {
                meta l4proto udp numgen random mod 3 0 dnat ip to 10.0.0.1:53
                meta l4proto tcp numgen random mod 3 0 dnat ip to 10.0.0.1:53
                meta l4proto udp numgen random mod 2 0 dnat ip to 10.0.0.2:5353
                meta l4proto tcp numgen random mod 2 0 dnat ip to 10.0.0.2:5353
                meta l4proto udp dnat ip to 10.0.0.3:53
                meta l4proto tcp dnat ip to 10.0.0.3:53
            }
            chain endpoints6 {
                meta l4proto udp dnat ip6 to [fd00::1]:53
                meta l4proto tcp dnat ip6 to [fd00::1]:53
            }";
        let hairpin = "ip saddr 10.0.0.1 ip daddr 10.0.0.1 ct status dnat masquerade
                ip saddr 10.0.0.2 ip daddr 10.0.0.2 ct status dnat masquerade
                ip saddr 10.0.0.3 ip daddr 10.0.0.3 ct status dnat masquerade
                ip6 saddr fd00::1 ip6 daddr fd00::1 ct status dnat masquerade";
        let all = endpoints(&["[fd00::1]:53", "10.0.0.3:53", "10.0.0.1:53", "10.0.0.2:5353"]);
        standing::replace(&mut netlink, &captured(), &all).unwrap();
        assert_eq!(ruleset(), as_nft_has_it(&standing_text(both, &format!("{four}\n{six}"), hairpin)));
        // What an administrator saves can be loaded again.
        assert_eq!(as_nft_has_it(&ruleset()), ruleset());

        let one = "chain endpoints6 {
                meta l4proto udp dnat ip6 to [fd00::1]:53
                meta l4proto tcp dnat ip6 to [fd00::1]:53
            }";
        let hairpin = "ip6 saddr fd00::1 ip6 daddr fd00::1 ct status dnat masquerade";
        standing::replace(&mut netlink, &captured(), &all[..1]).unwrap();
        assert_eq!(ruleset(), as_nft_has_it(&standing_text(one, &six, hairpin)));

        standing::replace(&mut netlink, &captured(), &[]).unwrap();
        assert_eq!(ruleset(), as_nft_has_it(&standing_text("", "", "")));
    });
}

#[test]
fn standing_table_is_replaced_read_back_and_removed() {
    isolated(&["nft"], || {
        let mut netlink = nftables::open().unwrap();
        assert_eq!(standing::endpoints(&mut netlink).unwrap(), None);
        assert!(!standing::remove(&mut netlink).unwrap());
        let what = captured();
        let lists: [&[&str]; 4] =
            [&["10.0.0.1:53"], &["10.0.0.1:5353", "10.0.0.2:53", "[fd00::1]:53"], &[], &["[fd00::1]:53"]];
        for list in lists {
            let list = endpoints(list);
            standing::replace(&mut netlink, &what, &list).unwrap();
            let once = ruleset();
            assert_eq!(standing::endpoints(&mut netlink).unwrap(), Some(list.clone()));
            assert!(standing::intact(&mut netlink, &what, &list).unwrap());
            standing::replace(&mut netlink, &what, &list).unwrap();
            assert_eq!(ruleset(), once);
            assert!(!standing::intact(&mut netlink, &what, &endpoints(&["10.0.0.9:53"])).unwrap());
        }
        assert!(standing::remove(&mut netlink).unwrap());
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn order_of_endpoints_does_not_matter() {
    isolated(&["nft"], || {
        let mut netlink = nftables::open().unwrap();
        let some = endpoints(&["[fd00::1]:53", "10.0.0.2:53", "10.0.0.1:53", "10.0.0.2:53"]);
        standing::replace(&mut netlink, &captured(), &some).unwrap();
        let sorted = endpoints(&["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"]);
        assert_eq!(standing::endpoints(&mut netlink).unwrap(), Some(sorted.clone()));
        assert!(standing::intact(&mut netlink, &captured(), &sorted).unwrap());
    });
}

#[test]
fn standing_table_takes_the_endpoints_of_a_large_cluster() {
    isolated(&["nft"], || {
        let mut netlink = nftables::open().unwrap();
        let list: Vec<SocketAddr> =
            (1..=400u32).map(|number| (Ipv4Addr::from(0x0a00_0000 + number), 53).into()).collect();
        standing::replace(&mut netlink, &captured(), &list).unwrap();
        assert!(standing::intact(&mut netlink, &captured(), &list).unwrap());
        assert_eq!(standing::endpoints(&mut netlink).unwrap(), Some(list));
    });
}

/// Waits until `events` tell of something that none of `own` did.
fn told(events: &Events, own: &[u32]) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        let mut waiting = [PollFd::new(events, PollFlags::IN)];
        poll(&mut waiting, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap();
        if events.drain(own) {
            return true;
        }
    }
    false
}

#[test]
fn g18_what_others_do_to_the_standing_table_is_noticed() {
    isolated(&["nft"], || {
        let mut netlink = nftables::open().unwrap();
        let own = [netlink.port().unwrap()];
        let events = nftables::events().unwrap();
        let (what, list) = (captured(), endpoints(&["10.0.0.1:53", "10.0.0.2:53"]));
        let meddling = [
            "flush ruleset",
            "flush chain inet nodens-failopen prerouting",
            "delete chain inet nodens-failopen replies",
            "add rule inet nodens-failopen output accept",
            "insert rule inet nodens-failopen output ip daddr 10.9.9.9 accept",
            "chain inet nodens-failopen output { policy drop; }",
            "add chain inet nodens-failopen another",
            "add table inet nodens-failopen { flags dormant; }",
            "flush chain inet nodens-failopen endpoints4; \
             add rule inet nodens-failopen endpoints4 meta l4proto udp dnat ip to 10.0.0.3:53; \
             add rule inet nodens-failopen endpoints4 meta l4proto tcp dnat ip to 10.0.0.3:53; \
             add rule inet nodens-failopen endpoints4 meta l4proto udp dnat ip to 10.0.0.2:53; \
             add rule inet nodens-failopen endpoints4 meta l4proto tcp dnat ip to 10.0.0.2:53",
        ];
        for line in meddling {
            standing::replace(&mut netlink, &what, &list).unwrap();
            assert!(standing::intact(&mut netlink, &what, &list).unwrap(), "repaired before {line}");
            assert!(!events.drain(&own), "our own doing before {line}");
            run(&format!("nft '{line}'"));
            assert!(told(&events, &own), "{line}");
            assert!(!standing::intact(&mut netlink, &what, &list).unwrap(), "{line}");
        }
    });
}

#[test]
fn leftovers_of_node_cache_are_removed_and_nothing_else() {
    isolated(&["iptables-nft", "ip6tables-nft"], || {
        let skip = "-m comment --comment 'NodeLocal DNS Cache: skip conntrack'";
        let allow = "-m comment --comment 'NodeLocal DNS Cache: allow DNS traffic'";
        let families = [("iptables-nft", V4), ("ip6tables-nft", V6)];
        let listed = || families.map(|(command, _)| run(&format!("{command} -t raw -S; {command} -t filter -S")));
        for (command, address) in families {
            run(&format!("{command} -w -t raw -I PREROUTING -p udp -d {address} --dport 53 -j NOTRACK"));
            run(&format!("{command} -w -t filter -P FORWARD DROP"));
            run(&format!("{command} -w -t filter -A INPUT -p tcp -m comment --comment 'DNS Cache' -j ACCEPT"));
            run(&format!("{command} -w -t nat -A PREROUTING -p tcp {skip} -j ACCEPT"));
        }
        let before = listed();
        for (command, address) in families {
            let mut rules = Vec::new();
            for protocol in ["tcp", "udp"] {
                rules.extend([
                    format!("raw -I PREROUTING -p {protocol} -d {address} --dport 53 -j NOTRACK {skip}"),
                    format!("filter -I INPUT -p {protocol} -d {address} --dport 53 -j ACCEPT {allow}"),
                    format!("raw -I OUTPUT -p {protocol} -s {address} --sport 53 -j NOTRACK {skip}"),
                    format!("filter -I OUTPUT -p {protocol} -s {address} --sport 53 -j ACCEPT {allow}"),
                    format!("raw -I OUTPUT -p {protocol} -d {address} --dport 53 -j NOTRACK {skip}"),
                ]);
            }
            rules.push(format!("raw -I OUTPUT -p tcp -d {address} --dport 8080 -j NOTRACK {skip}"));
            rules.push(format!("raw -I OUTPUT -p tcp -s {address} --sport 8080 -j NOTRACK {skip}"));
            rules.iter().for_each(|rule| drop(run(&format!("{command} -w -t {rule}"))));
        }
        let with_leftovers = listed();
        let mut netlink = nftables::open().unwrap();
        let would = inspect::node_cache_rules(&mut netlink, true).unwrap();
        assert_eq!(would.len(), 24, "{would:#?}");
        let with = |part: &str| would.iter().filter(|line| line.contains(part)).count();
        assert_eq!(with("ip raw PREROUTING"), 2, "{would:#?}");
        assert_eq!(with("ip6 raw OUTPUT"), 6, "{would:#?}");
        assert_eq!(with("NodeLocal DNS Cache: allow DNS traffic"), 8, "{would:#?}");
        assert_eq!(listed(), with_leftovers);
        assert_eq!(inspect::node_cache_rules(&mut netlink, false).unwrap(), would);
        assert_eq!(listed(), before);
        assert!(inspect::node_cache_rules(&mut netlink, false).unwrap().is_empty());
    });
}

#[test]
fn chains_that_drop_are_seen() {
    isolated(&["nft", "iptables-nft"], || {
        let mut netlink = nftables::open().unwrap();
        let what = captured();
        let mut live = Live::open("a", &what).unwrap();
        live.capture().unwrap();
        standing::replace(&mut netlink, &what, &endpoints(&["10.0.0.1:53"])).unwrap();
        run("iptables-nft -w -P FORWARD DROP && iptables-nft -w -A INPUT -p tcp --dport 1 -j DROP");
        for (table, chain, hook, policy) in [
            ("inet mine", "in", "hook input", "accept"),
            ("inet mine", "through", "hook forward", "drop"),
            ("bridge mine", "in", "hook input", "drop"),
            ("netdev mine", "in", "hook ingress device lo", "drop"),
        ] {
            let base = format!("{{ type filter {hook} priority 5; policy {policy}; }}");
            run(&format!("nft 'add table {table}; add chain {table} {chain} {base}'"));
        }
        assert_eq!(inspect::dropping(&mut netlink).unwrap(), []);
        run("iptables-nft -w -P INPUT DROP && ip6tables-nft -w -P OUTPUT DROP");
        run("nft 'chain inet mine in { policy drop; }'");
        let mut found = inspect::dropping(&mut netlink).unwrap();
        found.sort_by_key(ToString::to_string);
        let shown: Vec<(String, bool)> = found.iter().map(|chain| (chain.to_string(), chain.iptables)).collect();
        let wanted = [("inet mine in", false), ("ip filter INPUT", true), ("ip6 filter OUTPUT", true)];
        assert_eq!(shown, wanted.map(|(name, iptables)| (name.to_owned(), iptables)));
    });
}

/// Answers everything that is asked at `address`, over UDP and TCP, with `name`, until the test ends.
fn serve(name: &'static str, address: &str, port: u16) {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    let udp = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        let mut question = [0; 16];
        while let Ok((_, client)) = udp.recv_from(&mut question) {
            // A client may have gone.
            let _ = udp.send_to(name.as_bytes(), client);
        }
    });
    let tcp = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for connection in tcp.incoming() {
            let _ = connection.and_then(|mut connection| connection.write_all(name.as_bytes()));
        }
    });
}

/// Who answers at `to`, over `transport`, a client with the source address `from`?
fn ask(transport: Type, from: Option<IpAddr>, to: SocketAddr) -> String {
    let once = || -> std::io::Result<String> {
        let protocol = if transport == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
        let mut socket = Socket::new(Domain::for_address(to), transport, Some(protocol))?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
        if transport == Type::DGRAM {
            socket.send(b"?")?;
        }
        let mut answer = [0; 16];
        let length = socket.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let deadline = Instant::now() + DEADLINE;
    loop {
        match once() {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{to} from {from:?}: {error}"),
        }
    }
}

/// A node with a pod and kube-dns behind it, each in a namespace; the node is this thread's.
struct Cluster {
    pod: Other,
    dns: Other,
}

impl Cluster {
    fn new() -> Cluster {
        run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        run(&format!("ip address add {V4}/32 dev lo && ip address add {V6}/128 dev lo nodad"));
        let [pod, dns] = [1, 2].map(|number| {
            let other = Other::new();
            run(&format!("ip link add veth{number} type veth peer name eth0 netns {}", other.pid()));
            run(&format!("ip address add 10.0.{number}.1/24 dev veth{number}"));
            run(&format!("ip address add fd0{number}::1/64 dev veth{number} nodad && ip link set veth{number} up"));
            other.within(|| {
                run(&format!("ip address add 10.0.{number}.2/24 dev eth0"));
                run(&format!("ip address add fd0{number}::2/64 dev eth0 nodad && ip link set eth0 up"));
                run(&format!("ip route add default via 10.0.{number}.1"));
                run(&format!("ip -6 route add default via fd0{number}::1"));
            });
            other
        });
        for address in [V4, V6] {
            serve("local", address, 53);
        }
        serve("local", V4, 8080);
        dns.within(|| {
            serve("remote", "10.0.2.2", 53);
            serve("remote", "fd02::2", 5353);
        });
        Cluster { pod, dns }
    }

    fn endpoints(&self) -> Vec<SocketAddr> {
        endpoints(&["10.0.2.2:53", "[fd02::2]:5353"])
    }

    /// Asks from everywhere and holds all answers against `who`.
    fn answered_by(&self, who: &str, when: &str) {
        for to in [V4, V6].map(|address| SocketAddr::new(address.parse().unwrap(), 53)) {
            for transport in [Type::DGRAM, Type::STREAM] {
                assert_eq!(ask(transport, None, to), who, "{when}: the node asks {to} {transport:?}");
                let pod = self.pod.within(|| ask(transport, None, to));
                assert_eq!(pod, who, "{when}: the pod asks {to} {transport:?}");
                let dns = self.dns.within(|| ask(transport, None, to));
                assert_eq!(dns, who, "{when}: the endpoint asks {to} {transport:?}");
            }
        }
    }

    /// Asks as the guardian does.
    fn probes_are_answered_here(&self, when: &str) {
        for (from, to) in [(IpAddr::V4(PROBE_V4), V4), (IpAddr::V6(PROBE_V6), V6)] {
            let to = SocketAddr::new(to.parse().unwrap(), 53);
            for transport in [Type::DGRAM, Type::STREAM] {
                assert_eq!(ask(transport, Some(from), to), "local", "{when}: {to} is probed {transport:?}");
            }
        }
    }
}

/// What is tracked of those who ask `port`.
fn tracked(port: u16) -> Vec<String> {
    let all = run("conntrack -L 2>&1 && conntrack -L -f ipv6 2>&1");
    all.lines().filter(|line| line.contains(&format!("dport={port} "))).map(str::to_owned).collect()
}

#[test]
fn packets_go_where_they_should() {
    if env::var_os("NODENS_TEST_OWNER").is_some() {
        return own_the_packets();
    }
    isolated(&["nft", "conntrack", "sysctl"], || {
        let cluster = Cluster::new();
        let what = captured();
        let mut netlink = nftables::open().unwrap();
        standing::replace(&mut netlink, &what, &cluster.endpoints()).unwrap();
        cluster.answered_by("remote", "nobody is there");

        let mut live = Live::open("a", &what).unwrap();
        cluster.answered_by("remote", "not yet captured");
        assert!(!tracked(53).is_empty(), "what is translated is tracked");
        run("conntrack -F");
        cluster.probes_are_answered_here("not yet captured");
        assert_eq!(tracked(53), [""; 0], "probes before capture");

        live.capture().unwrap();
        cluster.answered_by("local", "captured");
        cluster.probes_are_answered_here("captured");
        let health = what.health.unwrap();
        assert_eq!(ask(Type::STREAM, None, health), "local");
        assert_eq!(cluster.pod.within(|| ask(Type::STREAM, None, health)), "local");
        assert_eq!([tracked(53), tracked(8080)].concat(), [""; 0], "captured");

        live.release().unwrap();
        cluster.answered_by("remote", "released");
        cluster.probes_are_answered_here("released");
        live.capture().unwrap();
        cluster.answered_by("local", "captured again");
        drop(live);
        left_alone_are(&[]);
        cluster.answered_by("remote", "dropped");

        // A process of its own, and what becomes of its table when it is killed.
        let mut owner = Command::new(env::current_exe().unwrap())
            .args(["packets_go_where_they_should", "--exact", "--nocapture"])
            .env("NODENS_TEST_OWNER", "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("captured by another")));
        cluster.answered_by("local", "captured by another process");
        owner.kill().unwrap();
        owner.wait().unwrap();
        cluster.answered_by("remote", "that process was killed");
    });
}

/// In a process of its own: captures until it is killed.
fn own_the_packets() {
    let mut live = Live::open("b", &captured()).unwrap();
    live.capture().unwrap();
    println!("captured by another");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn no_packet_sees_half_of_a_standing_table() {
    isolated(&["nft", "sysctl"], || {
        let cluster = Cluster::new();
        let (what, list) = (captured(), cluster.endpoints());
        let mut netlink: Netlink = nftables::open().unwrap();
        standing::replace(&mut netlink, &what, &list).unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let replacing = scope.spawn(|| {
                let results: Vec<_> = (0..50).map(|_| standing::replace(&mut netlink, &what, &list)).collect();
                over.store(true, Ordering::Release);
                results.into_iter().for_each(Result::unwrap);
            });
            let to = SocketAddr::new(V4.parse().unwrap(), 53);
            while !over.load(Ordering::Acquire) {
                // The local server would answer what no rule takes.
                assert_eq!(ask(Type::DGRAM, None, to), "remote");
            }
            replacing.join().unwrap();
        });
    });
}
