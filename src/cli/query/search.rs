//! The names a stub resolver tries for one name, by the search list and `ndots` of `/etc/resolv.conf`.
//!
//! The order is glibc's (resolv.conf(5)): with at least `ndots` dots the name itself comes first, otherwise last.

use hickory_proto::rr::Name;
use hickory_resolver::system_conf;

/// Why there is no search list.
#[derive(Debug, thiserror::Error)]
#[error("cannot read /etc/resolv.conf for --search: {0}")]
pub struct Error(String);

/// The part of `/etc/resolv.conf` that decides which names are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The suffixes, in order.
    pub suffixes: Vec<Name>,
    /// Names with fewer dots are tried with the suffixes first.
    pub ndots: usize,
}

impl List {
    /// This host's (or pod's) own.
    pub fn of_this_host() -> Result<List, Error> {
        let (config, options) = system_conf::read_system_conf().map_err(|e| Error(e.to_string()))?;
        Ok(List { suffixes: config.search().to_vec(), ndots: options.ndots })
    }
}

/// The names to try for `name`, in order; only the name itself when it ends in a dot.
pub fn candidates(name: &Name, list: &List) -> Vec<Name> {
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    if name.is_fqdn() {
        return vec![absolute];
    }
    // A name that would be too long with a suffix is one that cannot exist: it is passed over.
    let mut names: Vec<Name> = list.suffixes.iter().filter_map(|s| name.clone().append_domain(s).ok()).collect();
    names.iter_mut().for_each(|n| n.set_fqdn(true));
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    names.insert(if dots >= list.ndots { 0 } else { names.len() }, absolute);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(name: &str, ndots: usize) -> Vec<String> {
        let suffixes = ["shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local."];
        let list = List { suffixes: suffixes.iter().map(|s| Name::from_ascii(s).unwrap()).collect(), ndots };
        candidates(&Name::from_ascii(name).unwrap(), &list).iter().map(Name::to_ascii).collect()
    }

    #[test]
    fn a_short_name_goes_through_the_list_first() {
        let expected = ["web.shop.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local.", "web."];
        assert_eq!(tried("web", 5), expected);
    }

    #[test]
    fn a_name_with_enough_dots_comes_first() {
        assert_eq!(tried("a.b.c.d.e.f", 5)[0], "a.b.c.d.e.f.");
        assert_eq!(tried("www.example.org", 1)[0], "www.example.org.");
        assert_eq!(tried("www.example.org", 1).len(), 4);
    }

    #[test]
    fn a_trailing_dot_ends_the_matter() {
        assert_eq!(tried("web.", 5), ["web."]);
    }

    #[test]
    fn a_suffix_that_makes_the_name_too_long_is_passed_over() {
        let long = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(45)].join(".");
        assert_eq!(tried(&long, 5).len(), 2, "only cluster.local still fits");
    }
}
