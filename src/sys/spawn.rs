//! One program starts another and hands it descriptors: how the guardian starts the server, and how the server takes
//! them.
//!
//! The child ends with the thread that started it (PR_SET_PDEATHSIG), stands in a process group of its own, so that a
//! terminal's Ctrl-C reaches the parent alone, can gain no privilege, and has no descriptor but the standard ones and
//! those it was given.

#![expect(unsafe_code, reason = "code between fork and exec, and descriptors by number")]

use super::signal;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, getppid, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, setpgid, waitid,
};
use rustix::thread::set_no_new_privs;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of the first descriptor that is passed: the one after standard error.
const FIRST: RawFd = 3;

/// What to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program's file; no search along PATH.
    pub program: &'a Path,
    /// Its arguments, without its name.
    pub arguments: &'a [OsString],
    /// What it finds open as descriptors 3, 4 and so on; see [`inherited`].
    pub sockets: &'a [BorrowedFd<'a>],
}

impl Spawn<'_> {
    /// Starts the program. Standard output and error are shared with it, standard input is empty.
    ///
    /// The child is killed when the calling *thread* ends, not the process: call this on the main thread, and while no
    /// other thread closes descriptors.
    ///
    /// # Errors
    /// When a descriptor, a process or a pidfd (Linux 5.4) cannot be had, or the program not be run.
    pub fn start(&self) -> io::Result<Child> {
        let room = Room::new(self.sockets)?;
        let (parent, above) = (getpid(), room.above);
        let mut command = Command::new(self.program);
        command.args(self.arguments).stdin(Stdio::null());
        // SAFETY: between fork and exec only system calls are made: no lock is taken, nothing is allocated or freed.
        unsafe { command.pre_exec(move || prepare(parent, &room.sources, above)) };
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        // Until it is waited for, nobody else can have the number.
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Child { pid, pidfd, ending: None }),
            Err(error) => {
                let mut child = child;
                child.kill()?;
                child.wait()?;
                Err(error.into())
            }
        }
    }
}

/// Makes room in the table of descriptors, in the parent.
struct Room {
    /// What is passed, at numbers where nothing is in the way.
    sources: Vec<OwnedFd>,
    /// Holds what is free of the numbers that the child is given, so that the standard library puts its own pipe, by
    /// which it learns that exec failed, elsewhere.
    _held: Vec<OwnedFd>,
    /// The first number above those that the child is given.
    above: RawFd,
}

impl Room {
    fn new(sockets: &[BorrowedFd<'_>]) -> io::Result<Room> {
        let above = RawFd::try_from(sockets.len()).map_err(io::Error::other)? + FIRST;
        let mut held = Vec::new();
        if let Some(any) = sockets.first() {
            while {
                let lowest = fcntl_dupfd_cloexec(any, FIRST)?;
                let free = lowest.as_raw_fd() < above;
                held.push(lowest);
                free
            } {}
        }
        let sources = sockets.iter().map(|socket| fcntl_dupfd_cloexec(socket, above)).collect::<Result<_, _>>()?;
        Ok(Room { sources, _held: held, above })
    }
}

/// What the child does before it becomes the program. Async-signal-safe.
fn prepare(parent: Pid, sources: &[OwnedFd], above: RawFd) -> io::Result<()> {
    // File capabilities of the program would also undo the death signal: they are not granted.
    set_no_new_privs(true)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        // It ended before its end was ours.
        return Err(rustix::io::Errno::SRCH.into());
    }
    setpgid(None, None)?;
    signal::unblock_all()?;
    for (number, source) in (FIRST..).zip(sources) {
        // SAFETY: two numbers, of which the second is not in use by anything that runs before exec.
        if unsafe { libc::dup2(source.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // What somebody left open without the flag. Before Linux 5.11 there is no such call, and nothing of ours needs it.
    // SAFETY: only a flag is set, on whatever is open.
    unsafe { libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Killed {
        /// Its number.
        signal: i32,
        /// Was a core dumped?
        core: bool,
    },
}

/// A program that was started. Dropping this neither ends nor awaits it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    ending: Option<Ending>,
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends `signal`; to a child that has ended, in vain.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How it ended, if it has; never waits.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_wait(&mut self) -> io::Result<Option<Ending>> {
        self.look(WaitIdOptions::NOHANG)
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&mut self) -> io::Result<Ending> {
        loop {
            match self.look(WaitIdOptions::empty()) {
                Ok(Some(ending)) => return Ok(ending),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn look(&mut self, how: WaitIdOptions) -> io::Result<Option<Ending>> {
        if self.ending.is_none() {
            let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), how | WaitIdOptions::EXITED)?;
            self.ending = status.and_then(|status| match status.exit_status() {
                Some(code) => Some(Ending::Exited(code)),
                None => status.terminating_signal().map(|signal| Ending::Killed { signal, core: status.dumped() }),
            });
        }
        Ok(self.ending)
    }
}

/// Becomes readable when the child has ended.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Takes the `count` descriptors that [`Spawn`] gave to this process, closed on exec from now on.
///
/// # Errors
/// When one of them was not given, and at the second call: they have an owner then.
pub fn inherited(count: usize) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("inherited descriptors were taken before"));
    }
    let numbers = FIRST..FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX));
    for number in numbers.clone() {
        // SAFETY: borrowed for one question, whose answer may be that it is not open.
        let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) });
        // All that this process opens itself is closed on exec, and nothing that came through exec is.
        if flags.map_or(true, |flags| flags.contains(FdFlags::CLOEXEC)) {
            return Err(io::Error::other(format!("descriptor {number} was not passed to this process")));
        }
    }
    // SAFETY: they are open, none was opened by this process, and nobody took them before.
    let taken: Vec<OwnedFd> = numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect();
    for fd in &taken {
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signal::Signals;
    use rustix::event::{PollFd, PollFlags, poll};
    use std::fs::File;
    use std::io::{Read, Write};
    use std::sync::mpsc;
    use std::thread;

    /// Starts `script`, which has `sockets`.
    fn sh(script: &str, sockets: &[BorrowedFd<'_>]) -> Child {
        let arguments = ["-c".into(), script.into()];
        Spawn { program: Path::new("/bin/sh"), arguments: &arguments, sockets }.start().unwrap()
    }

    #[test]
    fn the_child_has_what_it_was_given_in_order_and_nothing_else() {
        let (mut read, write) = io::pipe().unwrap();
        let mut files = Vec::new();
        for content in ["a", "b", "c"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            files.push(file);
        }
        // Kept open over exec by somebody's negligence.
        let stray = fcntl_dupfd_cloexec(&files[0], 200).unwrap();
        fcntl_setfd(&stray, FdFlags::empty()).unwrap();
        let mut sockets: Vec<_> = files.iter().rev().map(File::as_fd).collect();
        sockets.push(write.as_fd());
        let stray = stray.as_raw_fd();
        let script = format!("cd /proc/self/fd; cat 3 4 5 >&6; [ ! -e {stray} ] && [ ! -e 7 ]; echo $? >&6");
        let mut child = sh(&script, &sockets);
        assert_eq!(child.wait().unwrap(), Ending::Exited(0));
        drop(write);
        let mut told = String::new();
        read.read_to_string(&mut told).unwrap();
        assert_eq!(told, "cba0\n");
    }

    #[test]
    fn numbers_that_are_sources_and_targets_do_not_disturb_each_other() {
        let (mut read, write) = io::pipe().unwrap();
        let (mut other, last) = io::pipe().unwrap();
        // So many that their own numbers are among those that the child is given.
        let mut sockets = vec![write.as_fd(); 40];
        sockets.push(last.as_fd());
        let mut child = sh("cd /proc/self/fd; echo 3 >3; echo 42 >42; echo 43 >43", &sockets);
        assert_eq!(child.wait().unwrap(), Ending::Exited(0));
        drop((write, last));
        let mut told = [String::new(), String::new()];
        read.read_to_string(&mut told[0]).unwrap();
        other.read_to_string(&mut told[1]).unwrap();
        assert_eq!(told, ["3\n42\n", "43\n"]);
    }

    #[test]
    fn endings_are_told_apart() {
        let mut child = sh("exit 7", &[]);
        assert_eq!(child.wait().unwrap(), Ending::Exited(7));
        assert_eq!(child.try_wait().unwrap(), Some(Ending::Exited(7)), "asked again, it says the same");
        child.kill(Signal::KILL).unwrap();

        let mut child = sh("exec sleep 600", &[]);
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill(Signal::KILL).unwrap();
        poll(&mut [PollFd::new(&child, PollFlags::IN)], None).unwrap();
        assert_eq!(child.try_wait().unwrap(), Some(Ending::Killed { signal: 9, core: false }));
    }

    #[test]
    fn the_child_has_a_group_of_its_own_no_blocked_signals_and_no_new_privileges() {
        let thread = thread::spawn(|| {
            let _blocked = Signals::new(&[Signal::TERM, Signal::CHILD]).unwrap();
            let (mut read, write) = io::pipe().unwrap();
            let mut child = sh(
                "while read name value; do case $name in SigBlk:|NoNewPrivs:) echo $name $value;; esac; done \
                 </proc/$$/status >&3; read pid name state parent group rest </proc/$$/stat; \
                 [ $group = $$ ] && echo own group >&3",
                &[write.as_fd()],
            );
            drop(write);
            let mut told = String::new();
            read.read_to_string(&mut told).unwrap();
            child.wait().unwrap();
            told
        });
        let told = thread.join().unwrap();
        for line in ["SigBlk: 0000000000000000\n", "NoNewPrivs: 1\n", "own group\n"] {
            assert!(told.contains(line), "{line}: {told}");
        }
    }

    #[test]
    fn the_child_ends_with_the_thread_that_started_it() {
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn(move || send.send(sh("exec sleep 600", &[])).unwrap());
        let mut child = receive.recv().unwrap();
        thread.join().unwrap();
        assert_eq!(child.wait().unwrap(), Ending::Killed { signal: 9, core: false });
    }
}
