//! The interface that holds our addresses: a dummy link where the kernel has that, else a TUN device.
//!
//! During an upgrade two instances of one node stand side by side. A dummy link outlives its maker and they share it; a
//! TUN device is each one's own, so the second takes the next name, and the same address stands on both. What somebody
//! else has made under our name, such as node-cache, is adopted. Where an address stands elsewhere already, as those of
//! Services do with kube-proxy in IPVS mode, it is left there.

mod kernel;

use super::netlink::Events;
use super::{Interface, Kind};
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
use crate::sys::tun;
use kernel::{Kernel, Seen};
use netlink_sys::protocols::NETLINK_ROUTE;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Most octets of a link's name.
const LONGEST_NAME: usize = 15;

/// A link that stays until somebody removes it.
const DUMMY: &str = "dummy";

/// A link that stays until its descriptor is closed.
const TUN: &str = "tun";

/// A link of another kind, which somebody made for us.
const OTHER: &str = "other";

/// Why the interface is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket to talk with the kernel.
    #[error("cannot open a netlink socket: {0}")]
    Netlink(#[source] io::Error),
    /// The kernel forbids it.
    #[error("cannot {doing}: this needs the capability NET_ADMIN in the host's network (hostNetwork: true)")]
    NotPermitted {
        /// What was to be done, and to which link.
        doing: String,
    },
    /// The kernel does not do it.
    #[error("cannot {doing}: {source}")]
    Refused {
        /// What was to be done, and to which link.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// A dummy link was asked for, and the kernel has none.
    #[error(
        "cannot make the interface {name}: this kernel has no dummy links: load the module (modprobe dummy), or let its \
         kind be auto or tun"
    )]
    NoDummy {
        /// Its name.
        name: String,
    },
    /// There is no TUN device to be had.
    #[error("cannot make the interface {name}: {}{source}", if *.instead { "this kernel has no dummy links (modprobe dummy), and " } else { "" })]
    Tun {
        /// Its name.
        name: String,
        /// Was it to take the place of a dummy link, which cannot be had either?
        instead: bool,
        /// Why not.
        source: tun::Error,
    },
    /// Every name belongs to somebody else.
    #[error("cannot make the interface {base}: {base} and the names after it, up to 9, belong to others")]
    NamesTaken {
        /// The first name.
        base: String,
    },
}

impl Error {
    /// Was what there is changed while it was read? Nothing is known then.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Error::Refused { source, .. } if source.kind() == io::ErrorKind::Interrupted)
    }
}

/// What is missing of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The link itself, or another has its name; its addresses went with it.
    pub gone: bool,
    /// It is there, but set down.
    pub down: bool,
    /// These addresses are nowhere.
    pub addresses: Vec<IpAddr>,
}

impl Damage {
    /// Is nothing missing?
    pub fn is_none(&self) -> bool {
        *self == Damage::default()
    }
}

/// A link under one of our names, as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What the kernel says that it is: `dummy`, `tun`, `bridge`…; empty for a real device.
    pub kind: String,
    /// Is it set up?
    pub up: bool,
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Our interface. Dropped, a TUN device is gone and anything else stays.
pub struct Link {
    kernel: Kernel,
    want: Interface,
    addresses: Vec<IpAddr>,
    made: Made,
    skipped: Vec<IpAddr>,
}

/// The link that was made or adopted.
struct Made {
    name: String,
    index: u32,
    kind: &'static str,
    /// What keeps a TUN device alive.
    _tun: Option<OwnedFd>,
}

impl Link {
    /// Makes or adopts the interface, sets it up and gives it its addresses, /32 and /128.
    ///
    /// # Errors
    /// [`Error`]. What was done by then stays done.
    pub fn establish(want: &Interface, addresses: &[IpAddr]) -> Result<Link, Error> {
        let mut kernel = Kernel::open().map_err(Error::Netlink)?;
        let made = obtain(&mut kernel, want)?;
        let mut link = Link { kernel, want: want.clone(), addresses: addresses.to_vec(), made, skipped: Vec::new() };
        link.complete()?;
        Ok(link)
    }

    /// Its name. Another after a repair, where the first was taken meanwhile.
    pub fn name(&self) -> &str {
        &self.made.name
    }

    /// `dummy`, `tun`, or `other` for what somebody else made under our name.
    pub fn kind(&self) -> &'static str {
        self.made.kind
    }

    /// The IPv6 addresses that were left out, as IPv6 is disabled here.
    pub fn skipped(&self) -> &[IpAddr] {
        &self.skipped
    }

    /// What is missing now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn check(&mut self) -> Result<Damage, Error> {
        let seen = self.kernel.link(&self.made.name).map_err(|e| refused("look for", &self.made.name, e))?;
        let Some(seen) = seen.filter(|seen| seen.index == self.made.index) else {
            return Ok(Damage { gone: true, ..Damage::default() });
        };
        let standing = self.standing()?;
        let missing =
            |address: &&IpAddr| !self.skipped.contains(address) && self.holder(&standing, **address).is_none();
        let addresses = self.addresses.iter().filter(missing).copied().collect();
        Ok(Damage { gone: false, down: !seen.up, addresses })
    }

    /// Puts back what is missing, and tells what that was: `interface`, `address`.
    ///
    /// # Errors
    /// [`Error`]. To be tried again.
    pub fn repair(&mut self) -> Result<Vec<&'static str>, Error> {
        let damage = self.check()?;
        if damage.gone {
            // This closes what is left of a TUN device that was renamed or moved away.
            self.made = obtain(&mut self.kernel, &self.want)?;
        }
        if !damage.is_none() {
            self.complete()?;
        }
        let parts = [("interface", damage.gone || damage.down), ("address", !damage.addresses.is_empty())];
        Ok(parts.into_iter().filter_map(|(part, missing)| missing.then_some(part)).collect())
    }

    /// Takes away what is ours: a TUN device; and when we are the `last` instance on this node, a dummy link, or our
    /// addresses on a link that somebody else made.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(mut self, last: bool) -> Result<(), Error> {
        let Made { name, index, kind, .. } = &self.made;
        let is_here = |seen: &Seen| seen.index == *index;
        // A TUN device goes with its descriptor, at the end of this function.
        if *kind == TUN || !last {
            return Ok(());
        }
        if !self.kernel.link(name).map_err(|e| refused("look for", name, e))?.as_ref().is_some_and(is_here) {
            return Ok(());
        }
        if *kind == DUMMY {
            return self.kernel.delete(*index).map_err(|e| refused("remove", name, e));
        }
        let standing = self.kernel.addresses().map_err(|e| refused("read the addresses of", name, e))?;
        for &address in self.addresses.iter().filter(|&&address| standing.contains(&(*index, address))) {
            let removed = self.kernel.remove_address(*index, address);
            removed.map_err(|e| refused(&format!("take {address} off"), name, e))?;
        }
        Ok(())
    }

    /// Sets the link up and gives it the addresses that it lacks.
    fn complete(&mut self) -> Result<(), Error> {
        // Up, since the routes of IPv6 addresses need that.
        self.kernel.set_up(self.made.index).map_err(|e| refused("set up", &self.made.name, e))?;
        let standing = self.standing()?;
        self.skipped.clear();
        for &address in &self.addresses {
            match self.holder(&standing, address) {
                Some(holder) if holder == self.made.name => continue,
                Some(holder) => {
                    tracing::info!(%address, holder, "stands on another interface already, where it is left");
                    continue;
                }
                None => {}
            }
            match self.kernel.add_address(self.made.index, address) {
                Err(error) if address.is_ipv6() && says_no_ipv6(&error) => self.skipped.push(address),
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                    return Err(refused(&format!("add {address} to"), &self.made.name, error));
                }
                _ => {}
            }
        }
        if !self.skipped.is_empty() {
            tracing::warn!(addresses = ?self.skipped, "IPv6 is disabled on this node: these addresses are left out");
        }
        Ok(())
    }

    /// All addresses of the host, each with the index of its link.
    fn standing(&mut self) -> Result<Vec<(u32, IpAddr)>, Error> {
        self.kernel.addresses().map_err(|e| refused("read the addresses of", &self.made.name, e))
    }

    /// Which link holds `address`, ours or a stranger's. That of another instance does not count: it may go any time.
    fn holder(&self, standing: &[(u32, IpAddr)], address: IpAddr) -> Option<String> {
        if standing.contains(&(self.made.index, address)) {
            return Some(self.made.name.clone());
        }
        let holders = standing.iter().filter(|(_, other)| *other == address);
        let mut known = holders.filter_map(|(index, _)| self.kernel.name_of(*index).ok());
        known.find(|holder| names(&self.want.name).all(|name| name != *holder))
    }
}

/// Removes what instances have left behind under `base`, unless `dry_run`, and says what that was. TUN devices vanish
/// when nobody holds them, and those that are held are somebody's; links of other kinds are not ours.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_leftovers(base: &str, dry_run: bool) -> Result<Vec<String>, Error> {
    let mut kernel = Kernel::open().map_err(Error::Netlink)?;
    let mut removed = Vec::new();
    for (seen, found) in ours(&mut kernel, base)?.into_iter().filter(|(seen, _)| seen.kind == DUMMY) {
        if !dry_run {
            kernel.delete(seen.index).map_err(|e| refused("remove", &found.name, e))?;
        }
        let addresses: Vec<String> = found.addresses.iter().map(IpAddr::to_string).collect();
        removed.push(format!("interface {} ({DUMMY}) with addresses [{}]", found.name, addresses.join(", ")));
    }
    Ok(removed)
}

/// The links under our names.
///
/// # Errors
/// When the kernel does not say.
pub fn list(base: &str) -> Result<Vec<Found>, Error> {
    let mut kernel = Kernel::open().map_err(Error::Netlink)?;
    Ok(ours(&mut kernel, base)?.into_iter().map(|(_, found)| found).collect())
}

/// Tells when links or addresses change.
///
/// # Errors
/// What the kernel says to the socket.
pub fn events() -> io::Result<Events> {
    Events::listen(NETLINK_ROUTE, &[libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR])
}

/// The links under our names, as the kernel and as we see them.
fn ours(kernel: &mut Kernel, base: &str) -> Result<Vec<(Seen, Found)>, Error> {
    let standing = kernel.addresses().map_err(|e| refused("read the addresses of", base, e))?;
    let mut found = Vec::new();
    for name in names(base) {
        let Some(seen) = kernel.link(&name).map_err(|e| refused("look for", &name, e))? else { continue };
        let addresses = standing.iter().filter(|(index, _)| *index == seen.index).map(|(_, address)| *address);
        let link = Found { name, kind: seen.kind.clone(), up: seen.up, addresses: addresses.collect() };
        found.push((seen, link));
    }
    Ok(found)
}

/// The names an interface of ours may have: `base`, then `base1` to `base9`, where need be cut to what the kernel takes.
fn names(base: &str) -> impl Iterator<Item = String> {
    let stem = &base[..base.floor_char_boundary(LONGEST_NAME - 1)];
    std::iter::once(base.to_owned()).chain((1..=9).map(move |digit| format!("{stem}{digit}")))
}

/// The first link under one of our names that can be ours: one that is there, or a new one.
fn obtain(kernel: &mut Kernel, want: &Interface) -> Result<Made, Error> {
    for name in names(&want.name) {
        let found = kernel.link(&name).map_err(|e| refused("look for", &name, e))?;
        let (made, why) = match found {
            Some(seen) => (adopt(kernel, name, seen, want.kind)?, "it was there"),
            None => create(kernel, name, want.kind)?,
        };
        if let Some(made) = made {
            static LINE: RateLimit = RateLimit::new(Duration::from_secs(10));
            if let Some(suppressed) = LINE.allow(Moment::now()) {
                let (interface, kind) = (&made.name, made.kind);
                tracing::info!(interface, kind, why, suppressed, "the interface of our addresses");
            }
            return Ok(made);
        }
    }
    Err(Error::NamesTaken { base: want.name.clone() })
}

/// A link that is there already; `None` when it is not what we want, or cannot be ours.
fn adopt(kernel: &mut Kernel, name: String, seen: Seen, want: Kind) -> Result<Option<Made>, Error> {
    let kind = match (seen.kind.as_str(), want) {
        (DUMMY, Kind::Auto | Kind::Dummy) => DUMMY,
        (TUN, Kind::Auto | Kind::Tun) => {
            // One that another instance holds is busy. Other errors come again, and are told, when one is made.
            let Ok(tun) = tun::open(&name) else { return Ok(None) };
            // It may have been another's until just now, and this one new.
            return found(kernel, name, TUN, Some(tun));
        }
        (DUMMY | TUN, _) | (_, Kind::Dummy | Kind::Tun) => return Ok(None),
        (_, Kind::Auto) => OTHER,
    };
    Ok(Some(Made { name, index: seen.index, kind, _tun: None }))
}

/// A new link, and why it is of that kind; `None` when somebody was faster.
fn create(kernel: &mut Kernel, name: String, want: Kind) -> Result<(Option<Made>, &'static str), Error> {
    let mut instead = false;
    if want != Kind::Tun {
        match kernel.add_dummy(&name) {
            Ok(()) => return Ok((found(kernel, name, DUMMY, None)?, "the kernel has dummy links")),
            // Dummy links are shared: it does not matter who made it.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let seen = kernel.link(&name).map_err(|e| refused("look for", &name, e))?;
                let Some(seen) = seen else { return Ok((None, "")) };
                return Ok((adopt(kernel, name, seen, want)?, "another instance made it just now"));
            }
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => instead = true,
            Err(error) => return Err(refused("make", &name, error)),
        }
    }
    if want == Kind::Dummy {
        return Err(Error::NoDummy { name });
    }
    let why = if instead { "the kernel has no dummy links" } else { "so it is configured" };
    match tun::open(&name) {
        Ok(tun) => Ok((found(kernel, name, TUN, Some(tun))?, why)),
        Err(tun::Error::Busy) => Ok((None, why)),
        Err(source) => Err(Error::Tun { name, instead, source }),
    }
}

/// A link that was just made; `None` when it is gone again.
fn found(kernel: &mut Kernel, name: String, kind: &'static str, tun: Option<OwnedFd>) -> Result<Option<Made>, Error> {
    let seen = kernel.link(&name).map_err(|e| refused("look for", &name, e))?;
    Ok(seen.map(|seen| Made { name, index: seen.index, kind, _tun: tun }))
}

/// Does an error of adding an IPv6 address mean that there is no IPv6? Nobody answers for that family with
/// `ipv6.disable=1`; a link with `disable_ipv6` answers EACCES, while a missing capability is EPERM.
fn says_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EACCES))
}

/// Why the kernel would not do something to the interface `name`.
fn refused(what: &str, name: &str, source: io::Error) -> Error {
    let doing = format!("{what} the interface {name}");
    match source.raw_os_error() {
        Some(libc::EPERM) => Error::NotPermitted { doing },
        _ => Error::Refused { doing, source },
    }
}
