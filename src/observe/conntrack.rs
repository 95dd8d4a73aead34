//! The kernel's connection tracking, as far as DNS suffers from it: how full its table is, and how often it lost a packet
//! because two were to make the same entry at once.
//!
//! All is of this network namespace, and missing where nothing tracks connections.

use super::sink::FamilySink;
use std::fs;

/// A line of column names, then a line of hexadecimal numbers for each CPU.
const STATISTICS: &str = "/proc/net/stat/nf_conntrack";
const ENTRIES: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// What the kernel tells; `None` what it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Connections that are tracked.
    pub entries: Option<u64>,
    /// Most that may be.
    pub limit: Option<u64>,
    /// Packets lost because their connection could not be entered.
    pub insert_failed: Option<u64>,
}

/// How things stand in this network namespace.
pub fn read() -> Conntrack {
    let read = |path: &str| fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse().ok();
    Conntrack {
        entries: number(ENTRIES),
        limit: number(LIMIT),
        insert_failed: read(STATISTICS).and_then(|text| sum_of(&text, "insert_failed")),
    }
}

/// Adds what the kernel tells, if it does.
pub fn report(sink: &mut FamilySink) {
    let Conntrack { entries, limit, insert_failed } = read();
    if let Some(n) = insert_failed {
        let help = "Packets lost because their connection could not be entered, most of them to a race.";
        sink.counter("nodens_conntrack_insert_failed", help, &[], n);
    }
    if let Some(n) = entries {
        sink.gauge("nodens_conntrack_entries", "Connections that the kernel tracks.", &[], n as f64);
    }
    if let Some(n) = limit {
        sink.gauge("nodens_conntrack_limit", "Most connections that the kernel tracks.", &[], n as f64);
    }
}

/// The sum of `column` over all CPUs; nothing when there is no such column. Which one it is differs between kernels.
fn sum_of(text: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines();
    let at = lines.next()?.split_whitespace().position(|name| name == column)?;
    let of_cpu = |line: &str| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok();
    Some(lines.filter_map(of_cpu).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.x prints it, shortened by some columns.
    const NEW: &str = "\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop
0000001a  00000000 00000000 00000000 00000003 00000000 00000000 00000000 00000000 0000001f 00000000 00000000
0000001a  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000002 00000000 00000000
";

    #[test]
    fn a_column_is_found_by_its_name_and_summed_over_all_cpus() {
        assert_eq!(sum_of(NEW, "insert_failed"), Some(0x21));
        assert_eq!(sum_of(NEW, "invalid"), Some(3));
        let old = "entries searched insert_failed\n0000001a 00000005 000000ff\n";
        assert_eq!(sum_of(old, "insert_failed"), Some(255));
    }

    #[test]
    fn what_is_not_there_or_not_readable_is_left_out() {
        assert_eq!(sum_of("", "insert_failed"), None);
        assert_eq!(sum_of("entries drop\n1 2\n", "insert_failed"), None);
        assert_eq!(sum_of("insert_failed\nxyz\n\n0a\n", "insert_failed"), Some(10));
    }

    #[test]
    fn the_files_of_this_kernel_are_read_where_they_are() {
        let mut sink = FamilySink::default();
        report(&mut sink);
        let names: Vec<String> = sink.into_families().iter().map(|family| family.name().to_owned()).collect();
        for (name, path) in [
            ("nodens_conntrack_entries", ENTRIES),
            ("nodens_conntrack_insert_failed", STATISTICS),
            ("nodens_conntrack_limit", LIMIT),
        ] {
            assert_eq!(names.iter().any(|n| n == name), fs::read_to_string(path).is_ok(), "{name}: {names:?}");
        }
    }
}
