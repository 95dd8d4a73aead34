//! `zones[].loadBalance`: in which order the records of an answer are given.
//!
//! As CoreDNS does it: aliases first, then what is neither alias, address nor MX, then addresses, then MX. `round-robin`
//! shuffles addresses among themselves and MX among themselves, in all sections. `weighted` moves one address to the
//! front, each as often as its weight says. Addresses within preferred networks come before others. What is random is
//! an argument; no record is lost, changed or added, and a message that cannot be read stays as it is.

mod weights;

pub use weights::{InvalidWeights, Weights};

use crate::config;
use crate::wire::header::{Header, rcode};
use crate::wire::message::Message;
use crate::wire::question::rtype;
use crate::wire::record::Section;
use crate::wire::rr::Rr;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Messages longer than this, in octets, stay as they are: some two hundred addresses. To take a large one apart for each
/// client costs the thread that looks up for all too much, and of so many the first few are any few.
const MAX_OCTETS: usize = 4096;

/// The rules of a zone.
#[derive(Debug)]
pub struct Balance {
    /// What stands in the file; `None` when all addresses are equal.
    weights: Option<ArcSwap<Weights>>,
    prefer: Vec<IpNet>,
}

/// Which records a place among others belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Alias,
    Other,
    Address,
    Exchange,
}

impl Balance {
    /// What the configuration says; with weights, none are known yet.
    pub fn new(config: &config::LoadBalance) -> Balance {
        let weights = config.weights.as_ref().map(|_| ArcSwap::default());
        Balance { weights, prefer: config.prefer.clone() }
    }

    /// Has `weights` hold from now on.
    pub fn set_weights(&self, weights: Weights) {
        if let Some(known) = &self.weights {
            known.store(Arc::new(weights));
        }
    }

    /// `message`, its records in the order in which this client gets them. `seed` is what is random.
    pub fn arrange(&self, message: Vec<u8>, seed: u64) -> Vec<u8> {
        let good = Header::read(&message).is_some_and(|header| header.rcode() == rcode::NOERROR);
        if !good || message.len() > MAX_OCTETS {
            return message;
        }
        let Some(mut read) = Message::read(&message) else { return message };
        let [.., hi, lo, _, _] = read.question[..] else { return message };
        let mut random = Random(seed);
        let before = read.sections.clone();
        match u16::from_be_bytes([hi, lo]) {
            rtype::AXFR | rtype::IXFR => return message,
            qtype => match &self.weights {
                None => read.sections.iter_mut().for_each(|section| shuffle(section, &mut random)),
                Some(weights) if matches!(qtype, rtype::A | rtype::AAAA | rtype::SRV) => {
                    let weights = weights.load();
                    for section in [Section::Answer, Section::Additional] {
                        weigh(read.section_mut(section), &weights, &mut random);
                    }
                }
                Some(_) => {}
            },
        }
        if !self.prefer.is_empty() {
            for section in [Section::Answer, Section::Additional] {
                self.put_preferred_first(read.section_mut(section));
            }
        }
        if read.sections == before {
            return message;
        }
        read.write().unwrap_or(message)
    }

    fn put_preferred_first(&self, section: &mut [Rr]) {
        let rank = |rr: &Rr| {
            let address = address(rr);
            let preferred = self.prefer.iter().position(|net| address.is_some_and(|address| net.contains(&address)));
            (Rank::of(rr), preferred.unwrap_or(self.prefer.len()))
        };
        section.sort_by_key(rank);
    }
}

impl Rank {
    fn of(rr: &Rr) -> Rank {
        match rr.rtype {
            rtype::CNAME => Rank::Alias,
            rtype::A | rtype::AAAA => Rank::Address,
            rtype::MX => Rank::Exchange,
            _ => Rank::Other,
        }
    }
}

/// Puts the records of a section in order, addresses and MX at random.
fn shuffle(section: &mut [Rr], random: &mut Random) {
    section.sort_by_key(Rank::of);
    for rank in [Rank::Address, Rank::Exchange] {
        let records = of_rank(section, rank);
        for last in (1..records.len()).rev() {
            records.swap(last, random.below(last + 1));
        }
    }
}

/// Puts the records of a section in order, and one address, chosen by weight, before the others.
fn weigh(section: &mut [Rr], weights: &Weights, random: &mut Random) {
    if !section.iter().any(|rr| Rank::of(rr) == Rank::Address) {
        return;
    }
    section.sort_by_key(Rank::of);
    let records = of_rank(section, Rank::Address);
    let each = |rr: &Rr| address(rr).map_or(1, |address| usize::from(weights.of(&rr.owner, address)));
    let mut left = random.below(records.iter().map(each).sum());
    let chosen = records.iter().position(|rr| {
        let found = left < each(rr);
        left = left.saturating_sub(each(rr));
        found
    });
    records.swap(0, chosen.unwrap_or(0));
}

/// The records of one rank in a section that is in order.
fn of_rank(section: &mut [Rr], rank: Rank) -> &mut [Rr] {
    let start = section.partition_point(|rr| Rank::of(rr) < rank);
    let end = section.partition_point(|rr| Rank::of(rr) <= rank);
    &mut section[start..end]
}

/// The address that a record holds.
fn address(rr: &Rr) -> Option<IpAddr> {
    match rr.rtype {
        rtype::A => <[u8; 4]>::try_from(&rr.rdata[..]).ok().map(|octets| Ipv4Addr::from(octets).into()),
        rtype::AAAA => <[u8; 16]>::try_from(&rr.rdata[..]).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Numbers that follow from a seed (SplitMix64): even enough to spread load, and no secret.
struct Random(u64);

impl Random {
    /// A number below `limit`; 0 when that is 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The upper half of a product is below the limit, and as even as the number.
        ((u128::from(z) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests;
