//! The host's network as one thing: interface, rules and fallback, brought up, kept and given back together.
//!
//! What fails is reported and gone without where that leaves the node better off: without rules a link-local address is
//! still answered, only tracked; without an interface the addresses may be there by other hands. `/ready`, the log and
//! metrics say so.

mod fallback;
mod rules;

use super::iptables::{self, Guard, Iptables};
use super::link::{self, Link};
use super::netlink::{Events, Netlink};
use super::nftables::{self, Live};
use super::{Firewall, Kind, Match, Plan};
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What others may remove, by the names that [`Status::repairs`] uses.
pub const REPAIRED: [&str; 4] = ["interface", "address", "rules", "fallback"];
/// What may fail, by node-cache's names.
const FAILED: [&str; 4] = ["iptables", "iptables_lock", "interface_add", "interface_check"];

/// How long the lock of iptables is waited for once we capture: for each family, and for each of two changes. Nothing is
/// watched meanwhile.
const HURRY: Duration = Duration::from_secs(1);

/// Most octets of [`Status::problem`].
const PROBLEM: usize = 4000;

/// Most endpoints that are used.
const ENDPOINTS: usize = 32;

/// Filters are left alone for so many times as long as looking for them took: a host may have a great many.
const FILTERS: u32 = 20;

/// What is said when the kernel lets us change nothing.
const NET_ADMIN: &str = "this needs the capability NET_ADMIN in the host's network (hostNetwork: true)";

/// The network as it was made.
pub struct Host {
    plan: Plan,
    what: Match,
    link: Option<Link>,
    rules: Rules,
    /// For the standing table and for what others have; `None` where nftables cannot be had.
    nftables: Option<Netlink>,
    /// What others do to links and addresses, and to tables.
    events: [Option<Events>; 2],
    /// Where the standing table shall lead; empty as long as nobody has said.
    endpoints: Vec<SocketAddr>,
    status: Status,
    /// When to look for filters again.
    filters_due: Moment,
    /// What [`Status::problem`] tells of, by what fails.
    problems: BTreeMap<&'static str, String>,
}

/// Who keeps packets out of connection tracking.
enum Rules {
    /// Nobody.
    None,
    /// We; and iptables, where there is one, lets packets pass that its policy would drop.
    Nftables { live: Live, iptables: Option<Iptables> },
    /// iptables.
    Iptables { tables: Iptables, guard: Guard },
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name and kind (`dummy`, `tun`) of the interface; `None` when it is not ours to make.
    pub interface: Option<(String, String)>,
    /// Are all addresses there?
    pub interface_up: bool,
    /// `nftables`, `iptables` or `none`; `auto` when neither could be had.
    pub firewall: String,
    /// Do packets for us skip connection tracking?
    pub notrack: bool,
    /// What is wrong; empty when all is well.
    pub problem: String,
    /// Where the standing table leads.
    pub endpoints: Vec<SocketAddr>,
    /// Filter chains whose policy would drop untracked packets, such as `ip filter INPUT`.
    pub dropping: Vec<String>,
    /// What others had removed and was put back: `interface`, `address`, `rules`, `fallback`, each with how often.
    pub repairs: BTreeMap<String, u64>,
    /// Failures by node-cache's names: `iptables`, `iptables_lock`, `interface_add`, `interface_check`.
    pub setup_errors: BTreeMap<String, u64>,
}

/// Why the network cannot be made ours. Only what was asked for by name, and what nothing works without, is an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No rules by nftables, where these very ones were asked for.
    #[error("network.firewall is nftables: {0}")]
    Nftables(#[source] nftables::Error),
    /// The same for iptables.
    #[error("network.firewall is iptables: {0}")]
    Iptables(#[source] iptables::Error),
    /// No rules at all, where certain ones were asked for.
    #[error("network.firewall is {firewall}: {NET_ADMIN}")]
    NotPermitted {
        /// By whom they were to be written.
        firewall: &'static str,
    },
}

impl Host {
    /// Makes the interface and what rules are there from start to end; captures nothing. `alone` says that no other
    /// instance is there, `generation` tells this one from them.
    ///
    /// # Errors
    /// [`Error`]; nothing is left behind then.
    pub fn prepare(plan: Plan, generation: &str, alone: bool) -> Result<Host, Error> {
        let what = Match { addresses: plan.addresses.clone(), port: plan.port, health: plan.health };
        let zero = |names: [&str; 4]| names.iter().map(|&name| (name.to_owned(), 0)).collect();
        let status = Status {
            firewall: "none".to_owned(),
            repairs: zero(REPAIRED),
            setup_errors: zero(FAILED),
            ..Status::default()
        };
        let mut host = Host {
            link: None,
            rules: Rules::None,
            nftables: None,
            events: [link::events().ok(), nftables::events().ok()],
            endpoints: Vec::new(),
            plan,
            what,
            status,
            filters_due: Moment::default(),
            problems: BTreeMap::new(),
        };
        match nftables::present() {
            Ok(netlink) => host.nftables = Some(netlink),
            Err(nftables::Error::NotPermitted { .. }) => {
                host.forgo()?;
                return Ok(host);
            }
            // iptables may still do.
            Err(_) => {}
        }
        // The rules are chosen first: iptables fails open by an interface that goes with us.
        let tables = host.choose()?;
        host.make_link(tables.is_some(), alone);
        host.make_rules(tables, generation, alone);
        host.remove_leftovers(alone);
        if alone && !host.plan.fail_open {
            host.remove_fallback();
        }
        host.check_filters();
        host.hurry();
        Ok(host)
    }

    /// Addresses that this host cannot have.
    pub fn skipped(&self) -> &[IpAddr] {
        self.link.as_ref().map_or(&[], Link::skipped)
    }

    /// Descriptors that become readable when somebody changes something.
    pub fn events(&self) -> impl Iterator<Item = &Events> {
        self.events.iter().flatten()
    }

    /// Has somebody changed something since this was asked last?
    pub fn notified(&self) -> bool {
        let [links, tables] = &self.events;
        let links = links.as_ref().is_some_and(|events| events.drain(&[]));
        // What we do to tables ourselves is no news.
        let live = if let Rules::Nftables { live, .. } = &self.rules { live.port().ok() } else { None };
        let standing = self.nftables.as_ref().and_then(|netlink| netlink.port().ok());
        let own: Vec<u32> = live.into_iter().chain(standing).collect();
        tables.as_ref().is_some_and(|events| events.drain(&own)) || links
    }

    /// How things stand.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Has packets come to our sockets, untracked; not as long as a filter would drop them.
    pub fn capture(&mut self) {
        if self.is_held() {
            return;
        }
        let done = match &mut self.rules {
            Rules::None => return,
            Rules::Nftables { live, .. } => live.capture().map_err(|error| ("iptables", error.to_string())),
            Rules::Iptables { tables, guard } => {
                tables.capture(&self.what, *guard).map(drop).map_err(|error| (error.name(), error.to_string()))
            }
        };
        self.status.notrack = done.is_ok();
        self.did(done);
    }

    /// Leaves packets to kube-dns. Rules that all instances share stay while `others` serve.
    pub fn release(&mut self, others: bool) {
        let done = match &mut self.rules {
            Rules::None => return,
            Rules::Nftables { live, .. } => live.release().map_err(|error| ("iptables", error.to_string())),
            Rules::Iptables { .. } if others => Ok(()),
            Rules::Iptables { tables, .. } => {
                tables.release(&self.what).map(drop).map_err(|error| (error.name(), error.to_string()))
            }
        };
        self.status.notrack &= done.is_err();
        self.did(done);
    }

    /// Was it done to capture packets, or to release them, whichever is `wanted`?
    pub fn is_settled(&self, wanted: bool) -> bool {
        matches!(self.rules, Rules::None) || self.status.notrack == (wanted && !self.is_held())
    }

    fn did(&mut self, done: Result<(), (&'static str, String)>) {
        match done {
            Ok(()) => self.fine(&["iptables", "iptables_lock"]),
            Err((kind, error)) => self.failed(kind, &error),
        }
    }

    /// Has the fallback lead to `endpoints`, if it is on this instance to see to it. They come from a process that is not
    /// trusted: packets of others are led neither back to us nor to what listens on this host alone.
    pub fn fall_back_to(&mut self, endpoints: &[SocketAddr], leads: bool) {
        let can_be = |endpoint: &&SocketAddr| {
            let ip = endpoint.ip().to_canonical();
            let ours = self.what.addresses.contains(&ip);
            !(ours || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || endpoint.port() == 0)
        };
        self.endpoints = endpoints.iter().filter(can_be).take(ENDPOINTS).copied().collect();
        self.endpoints.sort();
        if leads {
            self.make_fallback();
        }
    }

    /// Puts back what others have removed; says whether there was anything. `leads` tells whether it is on this instance
    /// to see to what all share.
    pub fn repair(&mut self, leads: bool) -> bool {
        let mut any = self.repair_link();
        any |= self.repair_rules(leads);
        if leads && self.plan.fail_open {
            any |= self.repair_fallback();
        } else if leads {
            // That of an instance which ran beside us.
            self.remove_fallback();
        }
        let begin = Moment::now();
        if leads && begin >= self.filters_due {
            self.check_filters();
            let end = Moment::now();
            self.filters_due = end + end.since(begin) * FILTERS;
        }
        any
    }

    /// From now on waits for nobody for long.
    fn hurry(&mut self) {
        if let Rules::Iptables { tables, .. } | Rules::Nftables { iptables: Some(tables), .. } = &mut self.rules {
            tables.set_patience(HURRY);
        }
    }

    /// Gives everything back that is ours alone; all that instances share as well when this is the `last` one; the
    /// fallback when it leaves `for_good`.
    pub fn leave(mut self, last: bool, for_good: bool) {
        // Without nftables the fallback is by iptables, too, and stays.
        let all = last && (self.nftables.is_some() || for_good);
        if !(all && matches!(self.rules, Rules::Iptables { .. })) {
            self.release(!last);
        }
        if let Rules::Iptables { tables, .. } | Rules::Nftables { iptables: Some(tables), .. } = &self.rules
            && all
        {
            match tables.remove_ours(false) {
                Ok(_) => {}
                // Nor could iptables have written any there.
                Err(iptables::Error::Unreadable { .. }) if matches!(self.rules, Rules::Nftables { .. }) => {}
                Err(error) => tracing::error!(%error, "iptables rules stay behind"),
            }
        }
        if for_good && last {
            self.remove_fallback();
        }
        // Addresses without rules keep nobody from kube-dns: the Service's are translated before they are looked up.
        let link = self.link.filter(|_| !self.plan.keep);
        if let Some(Err(error)) = link.map(|link| link.remove(last)) {
            tracing::error!(%error, "the interface stays behind");
        }
    }

    /// Leaves the network as it is, for want of the right to change it. The addresses may be there by other hands; if
    /// not, binding to them fails.
    fn forgo(&mut self) -> Result<(), Error> {
        let rules = match self.plan.firewall {
            Firewall::Nftables => return Err(Error::NotPermitted { firewall: "nftables" }),
            Firewall::Iptables => return Err(Error::NotPermitted { firewall: "iptables" }),
            Firewall::Auto => {
                self.status.firewall = "auto".to_owned();
                Some("rules".to_owned())
            }
            Firewall::None => None,
        };
        self.status.interface = self.plan.interface.take().map(|want| (want.name, "none".to_owned()));
        self.status.interface_up = self.status.interface.is_none();
        let interface = self.status.interface.as_ref().map(|(name, _)| format!("the interface {name}"));
        let what: Vec<String> = interface.into_iter().chain(rules).collect();
        self.failed("interface_add", &format!("cannot make {}: {NET_ADMIN}", what.join(" or ")));
        tracing::warn!(
            "what is there is served, its packets are tracked, and nothing is prepared for when it is not answered"
        );
        self.plan.fail_open = false;
        Ok(())
    }

    /// The interface. Without one, addresses may be there by other hands; if not, binding to them says so.
    fn make_link(&mut self, iptables: bool, alone: bool) {
        let Some(mut want) = self.plan.interface.clone() else {
            self.status.interface_up = true;
            return;
        };
        if want.kind == Kind::Auto && iptables && self.may_go_with_us(&want.name, alone) {
            want.kind = Kind::Tun;
        }
        let made = match Link::establish(&want, &self.plan.addresses) {
            Err(error)
                if want.kind == Kind::Tun && self.plan.interface.as_ref().is_some_and(|i| i.kind != Kind::Tun) =>
            {
                tracing::warn!(%error, "the interface will outlive us: the host's own processes are not served then");
                want.kind = Kind::Auto;
                Link::establish(&want, &self.plan.addresses)
            }
            made => made,
        };
        match made {
            Ok(link) => {
                self.status.interface = Some((link.name().to_owned(), link.kind().to_owned()));
                self.status.interface_up = true;
                self.link = Some(link);
            }
            Err(error) => {
                self.status.interface = Some((want.name, "none".to_owned()));
                self.failed("interface_add", &error);
            }
        }
    }

    /// Rules of iptables fail open best when the addresses go with us. Can they, or is there a link that stays? One that
    /// node-cache left behind need not, when we are `alone`.
    fn may_go_with_us(&self, name: &str, alone: bool) -> bool {
        if alone && let Err(error) = link::remove_leftovers(name, false) {
            tracing::warn!(%error, "an old interface stays");
        }
        link::list(name).is_ok_and(|links| links.iter().all(|link| link.kind == "tun"))
    }

    fn repair_link(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let repaired = link.repair();
        if repaired.as_ref().is_err_and(link::Error::is_interrupted) {
            // Somebody adds address after address.
            return false;
        }
        self.status.interface = Some((link.name().to_owned(), link.kind().to_owned()));
        self.status.interface_up = repaired.is_ok();
        match repaired {
            Ok(parts) => {
                parts.iter().for_each(|part| self.repaired(part, "the interface"));
                self.fine(&["interface_add", "interface_check"]);
                !parts.is_empty()
            }
            Err(error) => {
                self.failed("interface_check", &error);
                false
            }
        }
    }

    /// Counts and reports a repair.
    fn repaired(&mut self, part: &str, what: &str) {
        static LINES: [RateLimit; REPAIRED.len()] = [const { RateLimit::new(Duration::from_secs(10)) }; REPAIRED.len()];
        *self.status.repairs.entry(part.to_owned()).or_default() += 1;
        // Somebody may insist.
        let line = REPAIRED.iter().zip(&LINES).find(|(name, _)| **name == part).map(|(_, line)| line);
        if let Some(suppressed) = line.and_then(|line| line.allow(Moment::now())) {
            tracing::warn!(part, suppressed, "{what} was changed by somebody else and is put back");
        }
    }

    /// Counts a failure, by node-cache's name for it, and reports it, unless that was the last to be said of its kind.
    fn failed(&mut self, kind: &'static str, error: &dyn std::fmt::Display) {
        self.failed_at(kind, kind, error);
    }

    /// The same for a failure of `what`, which is not over when something else of its kind is well.
    fn failed_at(&mut self, what: &'static str, kind: &'static str, error: &dyn std::fmt::Display) {
        *self.status.setup_errors.entry(kind.to_owned()).or_default() += 1;
        let text = error.to_string();
        if self.problems.get(what) != Some(&text) {
            tracing::error!(error = text, "the network is not as it should be");
            self.problems.insert(what, text);
            self.tell_problems();
        }
    }

    /// Takes back what [`Host::failed`] said of these kinds.
    fn fine(&mut self, kinds: &[&str]) {
        self.problems.retain(|kind, _| !kinds.contains(kind));
        self.tell_problems();
    }

    fn tell_problems(&mut self) {
        let all: Vec<&str> = self.problems.values().map(String::as_str).collect();
        let mut text = all.join("; ");
        // What a program complains of may be long, and is to be passed on in one packet.
        text.truncate(text.floor_char_boundary(PROBLEM));
        self.status.problem = text;
    }
}
