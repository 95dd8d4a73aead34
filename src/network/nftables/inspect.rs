//! What others have in nftables, as far as it concerns us: chains that would drop our packets, tables of other
//! instances, and the rules that node-cache left by iptables.
//!
//! Sees what iptables-nft writes, since that is nftables; of iptables-legacy nothing is seen here.

use super::table::{self, NF_DROP, Placed, Step};
use super::{Error, PREFIX, standing};
use crate::network::netlink::Netlink;
use netlink_packet_netfilter::NetfilterProtoFamily as Family;
use netlink_packet_netfilter::nftables::InetHookNumber;
use rustix::io::Errno;
use std::{fmt, io};

/// What node-cache's comments begin with.
const NODE_CACHE: &[u8] = b"NodeLocal DNS Cache:";

/// How often to look again when a rule is gone before we remove it: a node-cache that ends removes its own one by one.
const TRIES: usize = 8;

/// A chain that decides about packets to or from this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// The table it is in.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Is it iptables-nft's, by its name? Then rules that accept are added by iptables.
    pub iptables: bool,
}

impl fmt::Display for FilterChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// The chains on this host's input and output that drop what none of their rules accepts. They hit what is not tracked,
/// for a rule that accepts established connections does not.
///
/// # Errors
/// What the kernel says.
pub fn dropping(netlink: &mut Netlink) -> Result<Vec<FilterChain>, Error> {
    let all = table::chains(netlink, Family::Unspec, |(_, _, chain)| chain.base.is_some())
        .map_err(Error::of("list the nftables chains"))?;
    let dropping = all.into_iter().filter_map(|(family, table, chain)| {
        let base = chain.base?;
        let here = matches!(base.hook, InetHookNumber::LocalIn | InetHookNumber::LocalOut);
        let name = match family {
            Family::IPv4 => "ip",
            Family::IPv6 => "ip6",
            Family::Inet => "inet",
            _ => return None,
        };
        let iptables = family != Family::Inet && table == "filter" && ["INPUT", "OUTPUT"].contains(&&*chain.name);
        let found = FilterChain { family: name, table, chain: chain.name, iptables };
        (here && base.kind == "filter" && base.policy == NF_DROP).then_some(found)
    });
    Ok(dropping.collect())
}

/// The names of the live tables there are, of all instances on this node.
///
/// # Errors
/// What the kernel says.
pub fn live_tables(netlink: &mut Netlink) -> Result<Vec<String>, Error> {
    let all = table::tables(netlink).map_err(Error::of("list the nftables tables"))?;
    let names = all.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| name.starts_with(PREFIX) && *name != standing::table()).collect())
}

/// Finds the rules that node-cache left by iptables-nft, and removes them all at once, but for a `dry_run`. They would
/// keep our packets out of connection tracking when we do not answer. One line for each.
///
/// # Errors
/// What the kernel says; then nothing has been removed.
pub fn node_cache_rules(netlink: &mut Netlink, dry_run: bool) -> Result<Vec<String>, Error> {
    for _ in 0..TRIES {
        let (lines, steps) = find_node_cache_rules(netlink)?;
        if dry_run {
            return Ok(lines);
        }
        match table::transact(netlink, steps) {
            Ok(()) => return Ok(lines),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
            Err(error) => return Err(Error::of("remove node-cache's rules")(error)),
        }
    }
    let source = io::Error::other("somebody else keeps removing some of them");
    Err(Error::Other { operation: "remove node-cache's rules".into(), source })
}

/// A line for each rule, and how to remove it.
fn find_node_cache_rules(netlink: &mut Netlink) -> Result<(Vec<String>, Vec<Step>), Error> {
    let (mut lines, mut steps) = (Vec::new(), Vec::new());
    for (family, name) in [(Family::IPv4, "ip"), (Family::IPv6, "ip6")] {
        for table in ["raw", "filter"] {
            let operation = format!("list the nftables table {name} {table}");
            let theirs = |placed: &Placed| comment_of_node_cache(placed).is_some();
            for placed in table::rules(netlink, family, table, theirs).map_err(Error::of(operation))? {
                let Some(comment) = comment_of_node_cache(&placed) else { continue };
                lines.push(format!("{name} {table} {} handle {}: {comment}", placed.chain, placed.handle));
                steps.push(table::delete_rule(family, table, &placed));
            }
        }
    }
    Ok((lines, steps))
}

/// The comment of a rule if it is node-cache's. Where iptables keeps comments depends on its version.
fn comment_of_node_cache(placed: &Placed) -> Option<String> {
    placed.rule.extensions().chain([placed.user_data.clone()]).find_map(|octets| {
        let start = octets.windows(NODE_CACHE.len()).position(|part| part == NODE_CACHE)?;
        let comment = octets[start..].split(|&octet| octet == 0).next()?;
        Some(String::from_utf8_lossy(comment).into_owned())
    })
}
