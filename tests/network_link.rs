//! The interface of our addresses, made and unmade in network namespaces; rows G16 and G17 of the behaviour table.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nodens::network::link::{self, Damage, Error, Link};
use nodens::network::netlink::{Events, Netlink};
use nodens::network::{Interface, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};
use support::DEADLINE;
use support::netns::{isolated, run};
use support::process::skip;

const BASE: &str = "nodelocaldns";
const V4: &str = "169.254.20.10";
const V6: &str = "fd00:53::10";

fn want(kind: Kind) -> Interface {
    Interface { name: BASE.to_owned(), kind }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn both() -> Vec<IpAddr> {
    addresses(&[V4, V6])
}

/// Runs `body` in a network of its own where TUN devices can be made.
fn with_tun(test: &str, body: impl FnOnce() + Send) {
    isolated(test, || match std::fs::File::options().write(true).open("/dev/net/tun") {
        Ok(_) => body(),
        Err(error) => skip(&format!("needs /dev/net/tun: {error}")),
    });
}

/// How often `address` stands on `name`, whatever the flags and prefix.
fn count(name: &str, address: &str) -> usize {
    let text = run(&format!("ip -o addr show dev {name} 2>/dev/null || true"));
    text.split_whitespace().filter(|word| word.split('/').next() == Some(address)).count()
}

fn exists(name: &str) -> bool {
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    devices.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

/// Does `still` end? What becomes of a closed TUN device does not come about before the children that other tests are just
/// starting have closed their copies of its descriptor too, which they do on exec.
fn ends(still: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while still() {
        if begin.elapsed() > DEADLINE {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Is `address` ours, so that what is sent there arrives? The kernel makes the route of an IPv6 address a moment after
/// the address: what is sent before is lost, so it is sent again.
fn is_local(address: IpAddr) -> bool {
    let Ok(server) = UdpSocket::bind((address, 0)) else { return false };
    server.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let client = UdpSocket::bind((address, 0)).unwrap();
    let begin = Instant::now();
    loop {
        client.send_to(b"query", server.local_addr().unwrap()).unwrap();
        if server.recv(&mut [0; 16]).is_ok() {
            return true;
        }
        assert!(begin.elapsed() < DEADLINE, "{address} can be bound, but nothing arrives there");
    }
}

/// Waits for an event.
fn changed(events: &Events) -> bool {
    let deadline = Timespec { tv_sec: DEADLINE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&deadline)).unwrap();
    ready == 1 && events.drain(&[])
}

#[test]
fn without_dummy_links_a_tun_device_holds_the_addresses() {
    with_tun("without_dummy_links_a_tun_device_holds_the_addresses", || {
        let mut link = Link::establish(&want(Kind::Auto), &both()).unwrap();
        assert_eq!(link.name(), BASE);
        let made = run(&format!("ip -d -o link show {BASE}"));
        // What the kernel here can do decides; the addresses are the same.
        match link.kind() {
            "dummy" => assert!(made.contains(" dummy "), "{made}"),
            kind => {
                assert!(kind == "tun" && made.contains("tun type tun pi off") && made.contains("persist off"), "{made}")
            }
        }
        assert!(made.contains("UP"), "{made}");
        let addresses = run(&format!("ip -o addr show dev {BASE}"));
        assert!(addresses.contains(&format!("{V4}/32")) && addresses.contains(&format!("{V6}/128")), "{addresses}");
        let v6 = addresses.lines().find(|line| line.contains(V6)).unwrap();
        assert!(v6.contains("nodad") && !v6.contains("tentative"), "{v6}");
        assert!(both().into_iter().all(is_local));
        assert_eq!(link.check().unwrap(), Damage::default());
        assert_eq!(link.repair().unwrap(), [""; 0]);
        assert!(link.skipped().is_empty());
        let found = link::list(BASE).unwrap();
        assert_eq!((found.len(), found[0].name.as_str(), found[0].up), (1, BASE, true));
        assert!(found[0].kind == link.kind() && both().iter().all(|address| found[0].addresses.contains(address)));
    });
}

#[test]
fn a_dummy_link_that_the_kernel_lacks_is_an_error_when_it_is_asked_for() {
    isolated("a_dummy_link_that_the_kernel_lacks_is_an_error_when_it_is_asked_for", || {
        let error = match Link::establish(&want(Kind::Dummy), &both()) {
            Ok(link) => return assert_eq!(link.kind(), "dummy"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::NoDummy { .. }), "{error}");
        assert!(error.to_string().contains("modprobe dummy") && error.to_string().contains(BASE), "{error}");
        assert!(!exists(BASE));
    });
}

#[test]
fn two_instances_each_have_a_tun_device_and_share_the_addresses() {
    with_tun("two_instances_each_have_a_tun_device_and_share_the_addresses", || {
        let first = Link::establish(&want(Kind::Tun), &both()).unwrap();
        let mut second = Link::establish(&want(Kind::Tun), &both()).unwrap();
        assert_eq!((first.name(), second.name()), (BASE, "nodelocaldns1"));
        for name in [BASE, "nodelocaldns1"] {
            assert_eq!((count(name, V4), count(name, V6)), (1, 1), "{name}");
        }
        first.remove(false).unwrap();
        assert!(ends(|| exists(BASE)));
        assert_eq!(second.check().unwrap(), Damage::default());
        assert!(both().into_iter().all(is_local), "the successor's addresses outlast the predecessor's");
        let third = Link::establish(&want(Kind::Tun), &both()).unwrap();
        assert_eq!(third.name(), BASE, "a name that is free again is taken again");
        second.remove(true).unwrap();
        assert!(both().into_iter().all(is_local));
        drop(third);
        assert!(ends(|| exists(BASE)) && ends(|| exists("nodelocaldns1")));
        assert!(ends(|| both().into_iter().any(|address| UdpSocket::bind((address, 0)).is_ok())));
    });
}

#[test]
fn every_name_taken_is_an_error() {
    with_tun("every_name_taken_is_an_error", || {
        let base = Interface { name: "fifteen-octets-".to_owned(), kind: Kind::Tun };
        let held: Vec<Link> = (0..10).map(|_| Link::establish(&base, &[]).unwrap()).collect();
        assert_eq!(
            (held[0].name(), held[1].name(), held[9].name()),
            ("fifteen-octets-", "fifteen-octets1", "fifteen-octets9")
        );
        let error = Link::establish(&base, &[]).err().unwrap();
        assert!(matches!(error, Error::NamesTaken { .. }) && error.to_string().contains("fifteen-octets-"), "{error}");
    });
}

#[test]
fn a_tun_device_that_was_made_to_persist_no_longer_does() {
    with_tun("a_tun_device_that_was_made_to_persist_no_longer_does", || {
        run(&format!("ip tuntap add {BASE} mode tun"));
        let link = Link::establish(&want(Kind::Auto), &both()).unwrap();
        assert_eq!((link.name(), link.kind()), (BASE, "tun"));
        drop(link);
        assert!(ends(|| exists(BASE)));
    });
}

#[test]
fn g17_a_link_that_others_remove_is_made_again() {
    with_tun("g17_a_link_that_others_remove_is_made_again", || {
        let mut link = Link::establish(&want(Kind::Tun), &both()).unwrap();
        let events = link::events().unwrap();
        for way in ["del", "set name elsewhere dev", "set down dev"] {
            run(&format!("ip link {way} {BASE}"));
            assert!(changed(&events), "{way}");
            let damage = link.check().unwrap();
            let down = way.contains("down");
            assert_eq!((damage.gone, damage.down), (!down, down), "{way}");
            let missing = if down { vec!["interface", "address"] } else { vec!["interface"] };
            assert_eq!(link.repair().unwrap(), missing, "{way}: an IPv6 address goes when its link goes down");
            assert_eq!(link.check().unwrap(), Damage::default(), "{way}");
            assert!(both().into_iter().all(is_local), "{way}");
            assert_eq!((count(BASE, V4), count(BASE, V6)), (1, 1), "{way}");
            assert!(ends(|| exists("elsewhere")), "a link is not left behind under another name");
            events.drain(&[]);
        }
    });
}

#[test]
fn g17_another_link_under_our_name_is_not_taken_for_ours() {
    with_tun("g17_another_link_under_our_name_is_not_taken_for_ours", || {
        let mut link = Link::establish(&want(Kind::Tun), &both()).unwrap();
        run(&format!("ip link del {BASE} && ip link add {BASE} type veth peer name other && ip link set {BASE} up"));
        run(&format!("ip addr add {V4}/32 dev {BASE}"));
        assert!(link.check().unwrap().gone);
        assert_eq!(link.repair().unwrap(), ["interface"]);
        assert_eq!((link.name(), count("nodelocaldns1", V4), count(BASE, V6)), ("nodelocaldns1", 1, 0));
        assert!(link.check().unwrap().is_none());
    });
}

#[test]
fn g17_addresses_that_others_remove_are_put_back() {
    with_tun("g17_addresses_that_others_remove_are_put_back", || {
        let mut link = Link::establish(&want(Kind::Tun), &both()).unwrap();
        let events = link::events().unwrap();
        for (address, prefix) in [(V4, 32), (V6, 128)] {
            run(&format!("ip addr del {address}/{prefix} dev {BASE}"));
            assert!(changed(&events), "{address}");
            let missing = addresses(&[address]);
            assert_eq!(link.check().unwrap(), Damage { addresses: missing, ..Damage::default() });
            assert_eq!(link.repair().unwrap(), ["address"]);
            assert!(link.check().unwrap().is_none() && is_local(address.parse().unwrap()), "{address}");
            events.drain(&[]);
        }
    });
}

#[test]
fn g16_without_ipv6_its_addresses_are_left_out() {
    with_tun("g16_without_ipv6_its_addresses_are_left_out", || {
        let Ok(()) = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1") else {
            return skip("needs IPv6 and a writable /proc/sys");
        };
        let mut link = Link::establish(&want(Kind::Tun), &both()).unwrap();
        assert_eq!(link.skipped(), addresses(&[V6]));
        assert!(is_local(V4.parse().unwrap()));
        assert_eq!(link.check().unwrap(), Damage::default(), "what cannot be is not missing");
        // Switched on and off again under way.
        for (value, skipped) in [("0", vec![]), ("1", addresses(&[V6]))] {
            std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", value).unwrap();
            run(&format!("ip addr del {V4}/32 dev {BASE}"));
            assert_eq!(link.repair().unwrap(), ["address"]);
            assert_eq!(link.skipped(), skipped, "disable_ipv6 = {value}");
            assert_eq!(link.check().unwrap(), Damage::default());
        }
    });
}

#[test]
fn an_address_on_a_strangers_link_is_left_there() {
    with_tun("an_address_on_a_strangers_link_is_left_there", || {
        run(&format!("ip link add kube-ipvs0 type veth peer name other && ip addr add {V4}/32 dev kube-ipvs0"));
        let mut link = Link::establish(&want(Kind::Tun), &both()).unwrap();
        assert_eq!((count(BASE, V4), count(BASE, V6)), (0, 1));
        assert_eq!(link.check().unwrap(), Damage::default());
        // When it goes from there it is ours to hold.
        run("ip link del kube-ipvs0");
        assert_eq!(link.check().unwrap().addresses, addresses(&[V4]));
        assert_eq!(link.repair().unwrap(), ["address"]);
        assert_eq!(count(BASE, V4), 1);
    });
}

#[test]
fn a_link_that_somebody_made_under_our_name_is_adopted_and_left() {
    isolated("a_link_that_somebody_made_under_our_name_is_adopted_and_left", || {
        run(&format!("ip link add {BASE} type veth peer name other && ip addr add {V4}/32 dev {BASE}"));
        run(&format!("ip addr add 192.0.2.7/24 dev {BASE}"));
        let establish = || Link::establish(&want(Kind::Auto), &both()).unwrap();
        let (first, mut second) = (establish(), establish());
        for link in [&first, &second] {
            assert_eq!((link.name(), link.kind()), (BASE, "other"));
        }
        assert_eq!((count(BASE, V4), count(BASE, V6)), (1, 1), "each address once");
        // Its other end is down: without a carrier, an address that is looked for elsewhere stays tentative.
        let v6 = run(&format!("ip -6 -o addr show dev {BASE}"));
        assert!(v6.contains("nodad") && !v6.contains("tentative"), "{v6}");
        assert!(both().into_iter().all(is_local));
        first.remove(false).unwrap();
        assert!(second.check().unwrap().is_none(), "what instances share stays until the last one goes");
        run(&format!("ip addr flush dev {BASE}"));
        assert_eq!(second.repair().unwrap(), ["address"]);
        run(&format!("ip addr add 192.0.2.7/24 dev {BASE}"));
        assert_eq!(link::remove_leftovers(BASE, false).unwrap(), [""; 0]);
        second.remove(true).unwrap();
        assert!(exists(BASE) && !both().into_iter().any(is_local));
        assert_eq!(count(BASE, "192.0.2.7"), 1, "addresses that are not ours stay");
    });
}

#[test]
fn a_kind_that_is_asked_for_is_not_found_in_another() {
    with_tun("a_kind_that_is_asked_for_is_not_found_in_another", || {
        run(&format!("ip link add {BASE} type veth peer name other"));
        let link = Link::establish(&want(Kind::Tun), &both()).unwrap();
        assert_eq!((link.name(), link.kind()), ("nodelocaldns1", "tun"));
        let found = link::list(BASE).unwrap();
        let found: Vec<_> = found.iter().map(|link| (link.name.as_str(), link.kind.as_str(), link.up)).collect();
        assert_eq!(found, [(BASE, "veth", false), ("nodelocaldns1", "tun", true)]);
    });
}

#[test]
fn dummy_links_are_shared_and_the_last_instance_removes_them() {
    isolated("dummy_links_are_shared_and_the_last_instance_removes_them", || {
        let establish = || Link::establish(&want(Kind::Dummy), &both());
        // Kernels differ, and which one runs is nobody's choice here; what happens on one without is tested above.
        let Ok(first) = establish() else { return };
        let mut second = establish().unwrap();
        assert_eq!((first.name(), second.name(), second.kind()), (BASE, BASE, "dummy"));
        assert_eq!((count(BASE, V4), count(BASE, V6)), (1, 1));
        first.remove(false).unwrap();
        assert!(second.check().unwrap().is_none());
        run(&format!("ip link del {BASE}"));
        assert_eq!(second.repair().unwrap(), ["interface"]);
        second.remove(true).unwrap();
        assert!(!exists(BASE));
        drop(establish().unwrap());
        run("ip link add nodelocaldns7 type dummy");
        assert_eq!(link::remove_leftovers(BASE, true).unwrap().len(), 2);
        assert!(exists(BASE), "a rehearsal removes nothing");
        let lines = link::remove_leftovers(BASE, false).unwrap();
        assert!(lines[0].contains(BASE) && lines[0].contains(V4) && lines[1].contains("nodelocaldns7"), "{lines:?}");
        assert!(!exists(BASE) && !exists("nodelocaldns7"));
    });
}

#[test]
fn tun_devices_are_not_taken_for_leftovers() {
    with_tun("tun_devices_are_not_taken_for_leftovers", || {
        let mut link = Link::establish(&want(Kind::Tun), &both()).unwrap();
        assert_eq!(link::remove_leftovers(BASE, false).unwrap(), [""; 0]);
        assert!(link.check().unwrap().is_none());
    });
}

#[test]
fn a_missing_device_node_is_named_with_what_to_do() {
    isolated("a_missing_device_node_is_named_with_what_to_do", || {
        run("mkdir -p /dev/net && mount -t tmpfs none /dev/net");
        let error = Link::establish(&want(Kind::Tun), &both()).err().unwrap().to_string();
        assert!(error.contains(BASE) && error.contains("/dev/net/tun is not there: mount it"), "{error}");
        assert!(!error.contains("dummy"), "{error}");
        if let Err(error) = Link::establish(&want(Kind::Auto), &both()) {
            let error = error.to_string();
            assert!(error.contains("no dummy links") && error.contains("/dev/net/tun is not there"), "{error}");
        }
        assert!(!exists(BASE));
    });
}

#[test]
fn a_missing_capability_is_named() {
    with_tun("a_missing_capability_is_named", || {
        let kept = capabilities(None).unwrap();
        let mut fewer = kept;
        fewer.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, fewer).unwrap();
        for kind in [Kind::Auto, Kind::Dummy, Kind::Tun] {
            let error = Link::establish(&want(kind), &both()).err().unwrap().to_string();
            assert!(error.contains(BASE) && error.contains("capability NET_ADMIN"), "{kind:?}: {error}");
        }
        assert_eq!(link::list(BASE).unwrap(), [], "whoever may change nothing can look");
        set_capabilities(None, kept).unwrap();
    });
}

#[test]
fn a_refusal_is_told_and_later_requests_are_not_confused_by_the_rest() {
    isolated("a_refusal_is_told_and_later_requests_are_not_confused_by_the_rest", || {
        let mut netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        let set_up = |index| {
            let mut message = LinkMessage::default();
            message.header.index = index;
            (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
            RouteNetlinkMessage::SetLink(message)
        };
        for _ in 0..3 {
            let several = [1, 9999, 1, 9998].map(|index| (set_up(index), NLM_F_ACK));
            let error = netlink.changes(several.into()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
            netlink.change(set_up(1), 0).unwrap();
            // The one that fails need not be one that is to be acknowledged.
            let error = netlink.changes(vec![(set_up(1), NLM_F_ACK), (set_up(9999), 0), (set_up(1), NLM_F_ACK)]);
            assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ENODEV));
            let listed = netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), Some).unwrap();
            assert!(listed.iter().any(|link| matches!(link, RouteNetlinkMessage::NewLink(l) if l.header.index == 1)));
        }
    });
}

#[test]
fn own_changes_are_no_news_and_too_many_changes_are() {
    isolated("own_changes_are_no_news_and_too_many_changes_are", || {
        let mut netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        let events = link::events().unwrap();
        assert!(!events.drain(&[]));
        let mut message = AddressMessage::default();
        (message.header.index, message.header.prefix_len) = (1, 32);
        message.header.family = netlink_packet_route::AddressFamily::Inet;
        message.attributes.push(AddressAttribute::Local(V4.parse().unwrap()));
        netlink.change(RouteNetlinkMessage::NewAddress(message.clone()), NLM_F_CREATE).unwrap();
        let own = [netlink.port().unwrap()];
        assert!(!events.drain(&own));
        netlink.change(RouteNetlinkMessage::DelAddress(message), 0).unwrap();
        assert!(events.drain(&[]), "it is news to who did not do it");
        // Far more than fit into the socket: the kernel drops them and says so once.
        run("for mtu in $(seq 1000 2000); do echo link set lo mtu $mtu; done | ip -batch -");
        assert!(events.drain(&own));
        while events.drain(&own) {}
        run("ip link set lo mtu 65536");
        assert!(changed(&events), "it goes on after that");
    });
}
