//! The one clock: nanoseconds since boot, time asleep included (CLOCK_BOOTTIME), never stepped by NTP.
//!
//! An entry cached before the machine was suspended is as old as it is. Wall-clock steps move nothing.

#![expect(unsafe_code, reason = "the CPU clock of another process")]

use rustix::process::Pid;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long before boot [`Moment`] begins to count: what was stored before the last boot has its place as well.
const BEFORE_BOOT: u64 = 30 * 86_400;

/// A point in time, nanoseconds since thirty days before boot: enough for 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Now, by the system's clock. A vDSO call: no system call, some 25 ns.
    #[inline]
    pub fn now() -> Moment {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Moment((t.tv_sec as u64 + BEFORE_BOOT) * 1_000_000_000 + t.tv_nsec as u64)
    }

    /// The point `ms` milliseconds after the first.
    pub const fn from_millis(ms: u64) -> Moment {
        Moment(ms.saturating_mul(1_000_000))
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    #[inline]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    #[inline]
    fn sub(self, d: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    #[inline]
    fn add(self, d: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The CPU time that a process has used, all its threads together; `None` when it is gone.
pub fn cpu_time(pid: Pid) -> Option<Duration> {
    // CPUCLOCK_SCHED of a process, as `clock_getcpuclockid` makes it.
    let clock = (!pid.as_raw_nonzero().get() << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call.
    let done = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let nanoseconds = u32::try_from(time.tv_nsec).ok()?;
    (done == 0).then(|| Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds))
}

/// Where the slow path reads the time: the system's clock, or one that a test moves by hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// [`Moment::now`].
    #[default]
    System,
    /// Nanoseconds, set by whoever holds the other end.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The current time.
    #[inline]
    pub fn now(&self) -> Moment {
        match self {
            Clock::System => Moment::now(),
            Clock::Manual(ns) => Moment(ns.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_a_process_is_seen_from_outside() {
        let used = cpu_time(rustix::process::getpid()).unwrap();
        assert!(used > Duration::ZERO);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        child.wait().unwrap();
        assert_eq!(cpu_time(pid), None);
    }

    #[test]
    fn moments_add_and_subtract_without_wrapping() {
        let late = Moment(u64::MAX - 1);
        assert_eq!(late + Duration::from_secs(5), Moment(u64::MAX));
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
        assert!(Moment::now() >= Moment(1));
    }
}
