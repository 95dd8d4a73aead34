//! The program's own code in memory: what only the start needed is given back.
//!
//! The kernel maps sixteen pages around each one that is touched, so that a start, which touches a little of everything,
//! leaves nearly the whole file mapped. Unmapped pages stay in the page cache, where all processes of this program share
//! them; what is still in use comes back with the next instruction, at the cost of a minor fault per sixteen pages.

#![expect(unsafe_code, reason = "advice about memory by address")]

use rustix::mm::{Advice, madvise};
use std::ffi::c_void;
use std::io;
use std::ops::Range;

/// Unmaps the code that is not running this moment, of the program and its libraries.
///
/// # Errors
/// When the kernel does not say where it is, or does not take the advice.
pub fn release() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for range in maps.lines().filter_map(code) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(range.start);
        // SAFETY: the range is a mapping of a file that can be run and not written, so that no page of it differs from the
        // file; whoever comes to need one finds it again.
        unsafe { madvise(start, range.len(), Advice::LinuxDontNeed)? };
    }
    Ok(())
}

/// The addresses of the mapping that a line of `/proc/PID/maps` tells of, if it is code from a file.
fn code(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, permissions, inode) = (fields.next()?, fields.next()?, fields.nth(2)?);
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (permissions == "r-xp" && inode != "0").then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_is_meant() {
        let text = "55d0a0e00000-55d0a1200000 r-xp 00100000 fe:00 123 /usr/local/bin/nodens";
        assert_eq!(code(text), Some(0x55d0_a0e0_0000..0x55d0_a120_0000));
        for other in [
            "55d0a0d00000-55d0a0e00000 r--p 00000000 fe:00 123 /usr/local/bin/nodens",
            "55d0a1300000-55d0a1320000 rw-p 00500000 fe:00 123 /usr/local/bin/nodens",
            "7ffd0f1f0000-7ffd0f1f2000 r-xp 00000000 00:00 0 [vdso]",
            "nonsense",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let mapped = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
        };
        // Others run beside this and take pages in: some of the times it shows.
        let less = (0..100).any(|_| {
            let before = mapped();
            release().unwrap();
            mapped() < before
        });
        assert!(less);
    }
}
