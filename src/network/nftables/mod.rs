//! Our nftables tables, written over netlink without `nft`: the live one that goes with its owner ([`live`]), the one
//! that stays ([`standing`]), and what others have ([`inspect`]).
//!
//! A table is described once, as chains of rules (`table`, `expr`). The description is what is sent, and what a dump
//! is held against. Rules are plain, one for each address and protocol, without sets: a node has one or two addresses,
//! and a list of plain rules can be read, compared and saved by anybody.

mod expr;
pub mod inspect;
pub mod live;
pub mod standing;
mod table;

pub use live::Live;

use super::Match;
use super::netlink::{Events, Netlink};
use expr::{PROTOCOLS, Rule, Side};
use netlink_packet_netfilter::nftables::InetHookNumber;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use table::{Base, Chain};

/// What all our tables begin with.
const PREFIX: &str = "nodens-";

/// The notifications of nftables (NFNLGRP_NFTABLES in linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;

/// Before connection tracking (-200): what is marked here is not tracked, and what is not tracked is never translated.
const RAW: i32 = -300;

/// Why nftables does not do it. Where there is no owner or there are no nftables, iptables may still do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// We are not allowed to.
    #[error("cannot {operation}: {source}; it needs CAP_NET_ADMIN")]
    NotPermitted {
        /// What was tried.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No table can be owned.
    #[error("cannot {operation}: {source}; tables that go with their owner need Linux 5.12 or later")]
    NoOwner {
        /// What was tried.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// There are no nftables, or not all that is needed of them.
    #[error(
        "cannot {operation}: {source}; this kernel lacks nftables or some of its modules (nf_tables, nft_ct, nft_nat, \
         nft_masq, nft_numgen)"
    )]
    NoNftables {
        /// What was tried.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {operation}: {source}")]
    Other {
        /// What was tried.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Names the `operation` that failed; for `map_err`.
    fn of(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        |source| {
            let operation = operation.into();
            match Errno::from_io_error(&source) {
                Some(Errno::PERM | Errno::ACCESS) => Error::NotPermitted { operation, source },
                // ENOENT: a kind of chain or expression is not known.
                Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP | Errno::NOENT) => {
                    Error::NoNftables { operation, source }
                }
                _ => Error::Other { operation, source },
            }
        }
    }
}

/// A socket for the functions of this module, in the current network namespace.
///
/// # Errors
/// [`Error::NotPermitted`] and [`Error::NoNftables`] where the kernel has or allows no such socket.
pub fn open() -> Result<Netlink, Error> {
    Netlink::open(NETLINK_NETFILTER).map_err(Error::of("open a netfilter socket"))
}

/// The same, where the kernel has nftables and lets us see them: that a socket can be opened does not say so.
///
/// # Errors
/// As for [`open`].
pub fn present() -> Result<Netlink, Error> {
    let mut netlink = open()?;
    match inspect::live_tables(&mut netlink) {
        Ok(_) => Ok(netlink),
        // What nfnetlink says to a message for a part of the kernel that is not there.
        Err(Error::Other { operation, source }) if Errno::from_io_error(&source) == Some(Errno::INVAL) => {
            Err(Error::NoNftables { operation, source })
        }
        Err(error) => Err(error),
    }
}

/// Can this kernel do what [`Live`] needs, and may we? Tries it with a table of its own that captures nobody's packets.
///
/// # Errors
/// Why not.
pub fn supported() -> Result<(), Error> {
    // Addresses for documentation (RFC 5737, RFC 3849).
    let addresses = vec![Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    live::tried(Match { addresses, port: 53, health: None })
}

/// Notifications of changes to any table, whoever makes them.
///
/// # Errors
/// What the kernel says to `socket`, `bind` or `setsockopt`.
pub fn events() -> io::Result<Events> {
    Events::listen(NETLINK_NETFILTER, &[GROUP])
}

/// A chain that is passed before connection tracking.
fn raw(name: &str, hook: InetHookNumber, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), base: Some(Base::new("filter", hook, RAW)), rules }
}

/// Rules that keep what has `address` and `port` on its `side` out of connection tracking.
fn untracked(side: Side, address: IpAddr, port: u16) -> impl Iterator<Item = Rule> {
    PROTOCOLS
        .into_iter()
        .map(move |protocol| Rule::family(address).address(side, address).port(protocol, side, port))
        .map(Rule::untracked)
}
