//! Names with fixed addresses, from the configuration and from files of the form of `/etc/hosts`: the zone's key `hosts`,
//! CoreDNS's plugin of that name.
//!
//! A name that has addresses is answered for every type: by them, or by an empty answer without a SOA. One that has none
//! goes on, where that is allowed, or is SERVFAIL: NXDOMAIN would take a SOA. A look-up takes no lock; files are read by
//! whoever calls [`Hosts::refresh`]. Of more entries than a message can hold those that fit are given: the answer is cached,
//! where one that says that it is truncated would be made anew for each client.

mod files;
mod reverse;
mod table;
#[cfg(test)]
mod tests;

pub use files::Status;

use super::{Answers, Asked, Said};
use crate::config;
use crate::observe::coredns::cells::Plugin;
use crate::sys::clock::Moment;
use crate::wire::header::rcode;
use crate::wire::question::{CLASS_IN, Question, is_within, rtype, to_wire};
use crate::wire::rr::{Rr, response};
use files::File;
use smallvec::SmallVec;
use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;
use table::{Scope, Table};

/// What the records of an answer may take of a message: beside them stand the question and, for the client, an OPT.
const MAX_OCTETS: usize = 64_000;
/// What a record takes beside its data, its owner being a pointer to the question.
const RECORD_OCTETS: usize = 12;

/// The names and addresses of one zone.
pub struct Hosts {
    entries: Table,
    files: Vec<File>,
    scope: Scope,
    fallthrough: Vec<Box<[u8]>>,
    ttl: u32,
    reload: Duration,
}

impl Hosts {
    /// What the configuration says; files are empty until [`Hosts::refresh`] has read them.
    pub fn new(config: &config::Hosts) -> Hosts {
        let wire = |names: &[String]| names.iter().map(|name| to_wire(name).into()).collect();
        let scope = Scope { names: wire(&config.names), reverse: config.reverse };
        let mut entries = Table::default();
        for (address, names) in &config.entries {
            for name in names {
                entries.add(*address, name, &scope);
            }
        }
        Hosts {
            entries,
            files: config.files.iter().map(|path| File::new(path.clone())).collect(),
            scope,
            fallthrough: wire(&config.fallthrough),
            ttl: u32::try_from(config.ttl.as_secs()).unwrap_or(u32::MAX),
            reload: config.reload,
        }
    }

    /// Reads the files that have changed, if it is time to look. Not for a thread that serves.
    pub fn refresh(&self, now: Moment) {
        self.files.iter().for_each(|file| file.refresh(now, self.reload, &self.scope));
    }

    /// How each file is. Entries of the configuration count with the first one, as CoreDNS counts them.
    pub fn files(&self) -> impl Iterator<Item = Status<'_>> {
        let own = std::iter::once(self.entries.len()).chain(std::iter::repeat(0));
        self.files.iter().zip(own).map(|(file, own)| {
            let status = file.status();
            Status { entries: status.entries + own, ..status }
        })
    }

    /// An answer of one record for each of these data, as far as a message holds them.
    fn say(&self, question: &Question, data: impl Iterator<Item = Vec<u8>>) -> Said {
        let (rtype, class, ttl) = (question.qtype(), CLASS_IN, self.ttl);
        let mut room = MAX_OCTETS;
        let fits = |rdata: &Vec<u8>| {
            let left = room.checked_sub(RECORD_OCTETS + rdata.len());
            room = left.unwrap_or(0);
            left.is_some()
        };
        let answers = data.take_while(fits);
        let answers = answers.map(|rdata| Rr { owner: question.name().to_vec(), rtype, class, ttl, rdata });
        match response(question, rcode::NOERROR, true, [&answers.collect::<Vec<_>>(), &[], &[]]) {
            Some(message) => Said::Answer { message, error: None, chase: None },
            None => Said::Fail { rcode: rcode::SERVFAIL, why: "more entries in hosts than fit a message".into() },
        }
    }

    /// The addresses of a name: those of its own entries, else of the nearest wildcard above it.
    fn addresses_of(&self, name: &[u8]) -> SmallVec<[IpAddr; 4]> {
        let tables: SmallVec<[_; 2]> = self.files.iter().map(File::table).collect();
        let tables = || tables.iter().map(|table| &***table).chain([&self.entries]);
        let mut found = each_once(tables().map(|table| table.addresses(name)));
        let mut rest = name;
        while found.is_empty() {
            let Some((&label, tail)) = rest.split_first().filter(|(label, _)| **label > 0) else { break };
            rest = tail.get(usize::from(label)..).unwrap_or_default();
            found = each_once(tables().map(|table| table.wildcard(rest)));
        }
        found
    }

    /// The names of an address.
    fn names_of(&self, address: IpAddr) -> SmallVec<[Box<[u8]>; 4]> {
        let tables: SmallVec<[_; 2]> = self.files.iter().map(File::table).collect();
        let tables = tables.iter().map(|table| &***table).chain([&self.entries]);
        each_once(tables.map(|table| table.names(address)))
    }
}

/// What stands in several lists, each of which holds it once; no more than a message could hold.
fn each_once<'a, T: Clone + Eq + Hash + 'a>(lists: impl Iterator<Item = &'a [T]>) -> SmallVec<[T; 4]> {
    let lists: SmallVec<[&[T]; 2]> = lists.filter(|list| !list.is_empty()).collect();
    match lists[..] {
        [] => SmallVec::new(),
        [only] => only.iter().cloned().collect(),
        _ => {
            let mut seen: HashSet<&T, foldhash::quality::RandomState> = HashSet::default();
            lists.into_iter().flatten().filter(|item| seen.insert(item)).take(table::MOST).cloned().collect()
        }
    }
}

impl Answers for Hosts {
    fn answer(&self, asked: &Asked<'_>) -> Said {
        let question = asked.question;
        let qname = question.name();
        if question.qclass() != CLASS_IN {
            return Said::Next;
        }
        if question.qtype() == rtype::PTR
            && let Some(address) = reverse::address(qname)
        {
            let names = self.names_of(address);
            // Most addresses are nobody's here: they go on wherever names may not.
            return if names.is_empty() { Said::Next } else { self.say(question, names.into_iter().map(Vec::from)) };
        }
        // Of the names that are asked for in reverse none can be known here, so they go on, too.
        if question.qtype() == rtype::PTR || !self.scope.holds(qname) {
            return Said::Next;
        }
        let addresses = self.addresses_of(qname);
        if addresses.is_empty() {
            return match self.fallthrough.iter().any(|zone| is_within(qname, zone)) {
                true => Said::Next,
                false => Said::Fail { rcode: rcode::SERVFAIL, why: "no entry in hosts".into() },
            };
        }
        let wanted = addresses.into_iter().filter_map(|address| match (question.qtype(), address) {
            (rtype::A, IpAddr::V4(v4)) => Some(v4.octets().to_vec()),
            (rtype::AAAA, IpAddr::V6(v6)) => Some(v6.octets().to_vec()),
            _ => None,
        });
        self.say(question, wanted)
    }

    fn plugin(&self) -> Plugin {
        Plugin::Hosts
    }
}
