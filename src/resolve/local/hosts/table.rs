//! Names and addresses, both ways, and the text of a hosts file to them.
//!
//! Lines are read as CoreDNS reads them, after Go's own parser: an address, which may have a zone (`%eth0`) that is
//! dropped, and names; `#` begins a comment. A line that is none of that is left out, and counted.

use crate::wire::presentation;
use crate::wire::question::is_within;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::IpAddr;

type Map<K, V> = HashMap<K, V, foldhash::quality::RandomState>;
type Name = Box<[u8]>;

/// The most addresses that are known of a name, and names of an address: a message holds no more (RFC 1035 §4.2.2).
pub(super) const MOST: usize = 4096;

/// What is taken into a table.
pub(super) struct Scope {
    /// Names at or below these, lower-case, as on the wire.
    pub(super) names: Vec<Name>,
    /// Whether addresses have names.
    pub(super) reverse: bool,
}

impl Scope {
    /// Is the name among these?
    pub(super) fn holds(&self, name: &[u8]) -> bool {
        self.names.iter().any(|zone| is_within(name, zone))
    }
}

/// Names and addresses.
#[derive(Default)]
pub(super) struct Table {
    addresses: Map<Name, SmallVec<[IpAddr; 1]>>,
    /// The same for all names below one.
    wildcards: Map<Name, SmallVec<[IpAddr; 1]>>,
    names: Map<IpAddr, SmallVec<[Name; 1]>>,
    len: usize,
}

impl Table {
    /// Reads the text of a file; with it the number of the first line that was left out, and how many were.
    pub(super) fn parse(text: &[u8], scope: &Scope) -> (Table, Option<(usize, usize)>) {
        let mut table = Table::default();
        let mut skipped: Option<(usize, usize)> = None;
        for (number, line) in text.split(|&octet| octet == b'\n').enumerate() {
            let line = line.split(|&octet| octet == b'#').next().unwrap_or_default();
            if !table.line(line, scope) {
                let (first, count) = skipped.unwrap_or((number + 1, 0));
                skipped = Some((first, count + 1));
            }
        }
        (table, skipped)
    }

    /// Takes in a line without its comment; `false` when there is something in it that is not understood.
    fn line(&mut self, line: &[u8], scope: &Scope) -> bool {
        let Ok(line) = std::str::from_utf8(line) else { return line.trim_ascii().is_empty() };
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { return true };
        let address = first.split('%').next().unwrap_or(first);
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        let mut names = words.peekable();
        let mut fits = names.peek().is_some();
        for name in names {
            fits &= self.add(address, name, scope);
        }
        fits
    }

    /// Takes in one name of an address, if the scope holds it; `false` when it is none.
    pub(super) fn add(&mut self, address: IpAddr, name: &str, scope: &Scope) -> bool {
        // An IPv4 address is one in whatever clothes.
        let address = address.to_canonical();
        let (wildcard, text) = name.strip_prefix("*.").map_or((false, name), |below| (true, below));
        let Ok(mut name) = presentation::name(text) else { return false };
        name.make_ascii_lowercase();
        if !scope.holds(&name) {
            return true;
        }
        let name: Name = name.into();
        let map = if wildcard { &mut self.wildcards } else { &mut self.addresses };
        let addresses = map.entry(name.clone()).or_default();
        let full = addresses.len() >= MOST;
        let known = addresses.contains(&address);
        if !known && !full {
            addresses.push(address);
        }
        self.len += 1;
        // Nobody is called "*".
        if scope.reverse && !wildcard {
            let names = self.names.entry(address).or_default();
            // Of a name with all its addresses known it is told by these; only past that the names must be gone through.
            if !known && names.len() < MOST && !(full && names.contains(&name)) {
                names.push(name);
            }
            self.len += 1;
        }
        true
    }

    /// How many pairs of a name and an address were taken in, and of an address and a name.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The addresses of a name, each once.
    pub(super) fn addresses(&self, name: &[u8]) -> &[IpAddr] {
        self.addresses.get(name).map_or(&[], |addresses| addresses)
    }

    /// The addresses of all names below this one.
    pub(super) fn wildcard(&self, name: &[u8]) -> &[IpAddr] {
        self.wildcards.get(name).map_or(&[], |addresses| addresses)
    }

    /// The names of an address, each once.
    pub(super) fn names(&self, address: IpAddr) -> &[Name] {
        self.names.get(&address).map_or(&[], |names| names)
    }
}
