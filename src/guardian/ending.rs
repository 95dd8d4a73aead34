//! Why a server ended, in one word for a metric and one sentence for the log.
//!
//! That the kernel killed it for want of memory is told by the memory cgroup's own count (`memory.events`, or
//! `memory.oom_control` in version 1): the signal alone could be anybody's.

use crate::sys::memory;
use crate::sys::spawn::Ending;
use std::fs;

/// A reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It exited by itself.
    Exit,
    /// A signal ended it.
    Signal,
    /// It panicked, or aborted otherwise.
    Panic,
    /// The kernel needed its memory.
    Oom,
    /// It did not answer and was killed for it.
    Hang,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 5] = [Reason::Exit, Reason::Signal, Reason::Panic, Reason::Oom, Reason::Hang];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Exit => "exit",
            Reason::Signal => "signal",
            Reason::Panic => "panic",
            Reason::Oom => "oom",
            Reason::Hang => "hang",
        }
    }

    /// What `ending` means, when we have `killed` it for hanging, and `oom` kills have been counted meanwhile.
    pub fn of(ending: Ending, killed: bool, oom: bool) -> Reason {
        match ending {
            Ending::Killed { signal: libc::SIGKILL, .. } if killed => Reason::Hang,
            Ending::Killed { signal: libc::SIGKILL, .. } if oom => Reason::Oom,
            Ending::Killed { signal: libc::SIGABRT, .. } => Reason::Panic,
            Ending::Killed { .. } => Reason::Signal,
            Ending::Exited(_) => Reason::Exit,
        }
    }
}

/// How many processes of our memory cgroup the kernel has killed for want of memory; `None` where that is not to be
/// seen.
pub fn oom_kills() -> Option<u64> {
    let files = memory::files("memory.events", "memory.oom_control");
    files.into_iter().find_map(|file| count(&fs::read_to_string(file).ok()?))
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let killed = |signal| Ending::Killed { signal, core: false };
        assert_eq!(Reason::of(killed(libc::SIGKILL), true, true), Reason::Hang);
        assert_eq!(Reason::of(killed(libc::SIGKILL), false, true), Reason::Oom);
        assert_eq!(Reason::of(killed(libc::SIGKILL), false, false), Reason::Signal);
        assert_eq!(Reason::of(killed(libc::SIGSEGV), false, true), Reason::Signal);
        assert_eq!(Reason::of(killed(libc::SIGABRT), false, false), Reason::Panic);
        assert_eq!(Reason::of(Ending::Exited(1), false, false), Reason::Exit);
    }

    #[test]
    fn the_count_of_oom_kills_is_found_in_both_versions_of_cgroups() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count("low 0\noom 1\noom_kill 2\noom_group_kill 9\n"), Some(2));
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}
