//! Names that become label values (zones, upstreams, listeners), each with a small number that the counters are indexed by.
//!
//! Append-only and bounded: a name keeps its number over every reload, and a configuration that keeps inventing names
//! ends up counting under `other` instead of growing the metrics without end. Only loading a configuration writes here;
//! the query path carries the numbers and never looks a name up.

use std::sync::{Arc, PoisonError, RwLock};

/// The label value that stands for every name beyond the bound.
const OTHER: &str = "other";

/// A bounded registry of names.
#[derive(Debug)]
pub struct Labels {
    names: RwLock<Vec<Arc<str>>>,
    bound: u16,
}

impl Labels {
    /// The number of the empty name: no zone, no upstream.
    pub const NONE: u16 = 0;
    /// How many zones are told apart.
    pub const ZONES: u16 = 128;
    /// How many upstreams are told apart.
    pub const UPSTREAMS: u16 = 256;
    /// How many listeners are told apart.
    pub const SERVERS: u16 = 64;

    /// A registry that tells `bound` names apart.
    pub fn new(bound: u16) -> Labels {
        Labels { names: RwLock::default(), bound: bound.min(u16::MAX - 1) }
    }

    /// How many numbers there are: every name within the bound, none, and other. All of them are below this.
    pub fn numbers(&self) -> usize {
        usize::from(self.bound) + 2
    }

    /// The number of `name`, made up when it is new: 0 for "", the last number when the registry is full.
    pub fn intern(&self, name: &str) -> u16 {
        if name.is_empty() {
            return Labels::NONE;
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let at = names.iter().position(|known| &**known == name).unwrap_or_else(|| {
            if names.len() < usize::from(self.bound) {
                names.push(name.into());
                return names.len() - 1;
            }
            usize::from(self.bound)
        });
        u16::try_from(at + 1).unwrap_or(u16::MAX)
    }

    /// The name of `number`, `other` when it is beyond the bound.
    pub fn name(&self, number: u16) -> Arc<str> {
        let Some(at) = usize::from(number).checked_sub(1) else { return "".into() };
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(at).cloned().unwrap_or_else(|| OTHER.into())
    }

    /// All names that have a number of their own, from number 1 on.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let labels = Labels::new(Labels::ZONES);
        let cluster = labels.intern("cluster.local.");
        let root = labels.intern(".");
        assert_eq!((cluster, root), (1, 2));
        assert_eq!(labels.intern("cluster.local."), cluster);
        assert_eq!(&*labels.name(root), ".");
        assert_eq!(labels.names().iter().map(|name| &**name).collect::<Vec<_>>(), ["cluster.local.", "."]);
    }

    #[test]
    fn number_zero_is_the_empty_name() {
        let labels = Labels::new(1);
        assert_eq!(labels.intern(""), Labels::NONE);
        assert_eq!(&*labels.name(Labels::NONE), "");
    }

    #[test]
    fn f15_names_beyond_the_bound_share_one_number() {
        let labels = Labels::new(2);
        let numbers: Vec<u16> = ["a", "b", "c", "d"].map(|name| labels.intern(name)).to_vec();
        assert_eq!(numbers, [1, 2, 3, 3]);
        assert_eq!(&*labels.name(3), "other");
        assert_eq!(labels.intern("a"), 1, "a full registry still knows its own");
        assert!(numbers.iter().all(|&n| usize::from(n) < labels.numbers()));
    }
}
