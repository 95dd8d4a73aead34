//! Signals for a program without a runtime: blocked, and read from a descriptor that stands in a `poll` among others.
//!
//! The mask is the thread's, and what the thread starts inherits it: make [`Signals`] first. Programs that are started by
//! [`super::spawn`] begin with nothing blocked.

#![expect(unsafe_code, reason = "signal masks and signalfd, which no safe crate offers")]

use rustix::process::Signal;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals that wait to be read instead of interrupting.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks `signals` in this thread, and in those it starts, for good; from now on they are read.
    ///
    /// # Errors
    /// What the kernel says to `signalfd`.
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        let set = set_of(signals);
        // SAFETY: the set is initialised and outlives the call; the old mask is not asked for.
        let failed = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        // SAFETY: the set is initialised and outlives the call.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that has come, if any; never waits. Signals of one kind that wait together are one.
    pub fn read(&self) -> Option<Signal> {
        let mut told = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of_val(&told);
        // SAFETY: `told` has room for `size` octets.
        let got = unsafe { libc::read(self.0.as_raw_fd(), told.as_mut_ptr().cast(), size) };
        if usize::try_from(got) != Ok(size) {
            return None;
        }
        // SAFETY: the kernel has filled all of it.
        let told = unsafe { told.assume_init() };
        Signal::from_named_raw(told.ssi_signo.cast_signed())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Has `signals` do nothing to this process.
pub fn ignore(signals: &[Signal]) {
    for signal in signals {
        // SAFETY: SIG_IGN is no code of ours. It fails for SIGKILL and SIGSTOP, which cannot be ignored.
        unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
    }
}

/// Has `signals` do to this process what they do by default, whatever it inherited.
pub fn restore(signals: &[Signal]) {
    for signal in signals {
        // SAFETY: SIG_DFL is no code of ours.
        unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) };
    }
}

/// Blocks no signal in this thread. Async-signal-safe.
pub(super) fn unblock_all() -> io::Result<()> {
    let none = set_of(&[]);
    // SAFETY: the set is initialised and outlives the call.
    let failed = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set; the signals are known to the kernel.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
        }
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use std::thread;

    /// Sends `signal` to this thread alone: the test process has others, where it is not blocked.
    fn send(signal: Signal) {
        // SAFETY: the thread is this one.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), signal.as_raw()) }, 0);
    }

    #[test]
    fn signals_are_read_and_interrupt_nothing() {
        let thread = thread::spawn(|| {
            let signals = Signals::new(&[Signal::TERM, Signal::HUP]).unwrap();
            assert_eq!(signals.read(), None);
            send(Signal::TERM);
            send(Signal::TERM);
            let mut ready = [PollFd::new(&signals, PollFlags::IN)];
            assert_eq!(poll(&mut ready, None).unwrap(), 1);
            assert_eq!(signals.read(), Some(Signal::TERM));
            assert_eq!(signals.read(), None, "two of a kind are one");
            send(Signal::HUP);
            assert_eq!(signals.read(), Some(Signal::HUP));
        });
        thread.join().unwrap();
    }

    #[test]
    fn ignored_signals_do_nothing() {
        ignore(&[Signal::URG, Signal::USR2]);
        send(Signal::USR2);
    }
}
