//! The standing table, `inet nodens-failopen`: where the packets go while nobody captures them, to kube-dns.
//!
//! Nobody owns it; it is there before us and after us. It is dormant while a live table marks our packets as not
//! tracked, since those are not translated.
//!
//! Destinations are translated at priority -90, after kube-proxy's -100: where there is a kube-proxy its own rule for
//! the Service address wins, and ours are for the link-local address, and for clusters without kube-proxy. The source is
//! translated where a reply would not come back otherwise: for processes of this host, whose source is the very address
//! they ask, and for an endpoint that asks and is sent to itself.

use super::expr::{PROTOCOLS, Rule, Side};
use super::table::{self, Base, Chain};
use super::{Error, Match, PREFIX, raw, untracked};
use crate::network::netlink::Netlink;
use netlink_packet_netfilter::nftables::{InetHookNumber, TableFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// What follows [`PREFIX`].
const SUFFIX: &str = "failopen";

/// After kube-proxy.
const DESTINATION: i32 = -90;

/// Where sources are translated by custom.
const SOURCE: i32 = 100;

/// The chains that choose an endpoint, of IPv4 and of IPv6.
const ENDPOINTS: [&str; 2] = ["endpoints4", "endpoints6"];

/// The table's name.
pub(super) fn table() -> String {
    format!("{PREFIX}{SUFFIX}")
}

/// Makes the table, in place of one that is there, in one go: no packet sees half of it. In which order the `endpoints`
/// come does not matter, here and for [`intact`].
///
/// # Errors
/// What the kernel says; then nothing has changed.
pub fn replace(netlink: &mut Netlink, what: &Match, endpoints: &[SocketAddr]) -> Result<(), Error> {
    let (table, flags) = (table(), TableFlags::empty());
    // Made first, so that there is something to delete.
    let mut steps =
        vec![table::new_table(&table, flags, 0), table::delete_table(&table), table::new_table(&table, flags, 0)];
    steps.extend(table::new_chains(&table, &chains(what, endpoints)));
    table::transact(netlink, steps).map_err(Error::of(format!("replace the nftables table inet {table}")))
}

/// The endpoints that the table sends to, sorted; `None` when there is no table.
///
/// # Errors
/// What the kernel says.
pub fn endpoints(netlink: &mut Netlink) -> Result<Option<Vec<SocketAddr>>, Error> {
    let Some(found) = read(netlink)? else { return Ok(None) };
    let choosing = ENDPOINTS.iter().filter_map(|&name| found.iter().find(|chain| chain.name == name));
    let mut endpoints: Vec<SocketAddr> = choosing.flat_map(|chain| &chain.rules).filter_map(Rule::endpoint).collect();
    // One rule for each protocol, one after the other.
    endpoints.dedup();
    Ok(Some(endpoints))
}

/// Is the table there as [`replace`] makes it, and nothing else in it?
///
/// # Errors
/// What the kernel says.
pub fn intact(netlink: &mut Netlink, what: &Match, endpoints: &[SocketAddr]) -> Result<bool, Error> {
    Ok(read(netlink)?.is_some_and(|found| table::hold(&chains(what, endpoints), &found)))
}

/// Removes the table; was there one?
///
/// # Errors
/// What the kernel says.
pub fn remove(netlink: &mut Netlink) -> Result<bool, Error> {
    let table = table();
    match table::transact(netlink, vec![table::delete_table(&table)]) {
        Ok(()) => Ok(true),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::of(format!("remove the nftables table inet {table}"))(error)),
    }
}

fn read(netlink: &mut Netlink) -> Result<Option<Vec<Chain>>, Error> {
    let table = table();
    table::read(netlink, &table).map_err(Error::of(format!("read the nftables table inet {table}")))
}

fn chains(what: &Match, endpoints: &[SocketAddr]) -> Vec<Chain> {
    let endpoints: BTreeSet<SocketAddr> = endpoints.iter().copied().collect();
    let of_family = |v4: bool| endpoints.iter().copied().filter(move |endpoint| endpoint.is_ipv4() == v4);
    let mut chains = Vec::new();
    let mut captured = Vec::new();
    for (name, v4) in [(ENDPOINTS[0], true), (ENDPOINTS[1], false)] {
        let choices = of_family(v4).collect::<Vec<_>>();
        if choices.is_empty() {
            continue;
        }
        chains.push(Chain { name: name.into(), base: None, rules: choosing(&choices) });
        for &address in what.addresses.iter().filter(|address| address.is_ipv4() == v4) {
            captured.extend(PROTOCOLS.map(|protocol| {
                let side = Side::Destination;
                Rule::family(address).address(side, address).port(protocol, side, what.port).goto(name)
            }));
        }
    }
    let ours = what.addresses.iter().map(|&address| Rule::family(address).address(Side::Source, address));
    let themselves = endpoints
        .iter()
        .map(|endpoint| endpoint.ip())
        .map(|address| Rule::family(address).address(Side::Source, address).address(Side::Destination, address));
    let sources = ours.chain(themselves).map(|rule| rule.translated().masqueraded()).collect();
    let replies = what.addresses.iter().flat_map(|&address| untracked(Side::Source, address, what.port)).collect();
    chains.extend([
        nat("prerouting", InetHookNumber::PreRouting, DESTINATION, captured.clone()),
        nat("output", InetHookNumber::LocalOut, DESTINATION, captured),
        nat("postrouting", InetHookNumber::PostRouting, SOURCE, sources),
        // The live table has these too; these outlive its owner.
        raw("replies", InetHookNumber::LocalOut, replies),
    ]);
    chains
}

fn nat(name: &str, hook: InetHookNumber, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), base: Some(Base::new("nat", hook, priority)), rules }
}

/// One of `endpoints` at random: the first of n takes one in n, the next one in n-1 of the rest, the last all. Each rule
/// names its protocol, because `nft` reads no port without one back in from a saved list.
fn choosing(endpoints: &[SocketAddr]) -> Vec<Rule> {
    let left = (1..=endpoints.len() as u32).rev();
    let each = endpoints.iter().zip(left).flat_map(|(&endpoint, left)| {
        PROTOCOLS.map(|protocol| Rule::default().protocol(protocol).one_in(left).sent_to(endpoint))
    });
    each.collect()
}
