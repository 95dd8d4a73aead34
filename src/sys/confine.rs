//! What a process that reads hostile packets gives up before it reads the first: capabilities, new privileges, changing
//! or running files, and all system calls that it does not need.
//!
//! Each is given up if the kernel can; what could not be is said. Capabilities and Landlock are a thread's: those that
//! run already would keep them, so that this comes before there are any.

use super::seccomp;
use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};
use std::fmt;
use std::path::Path;

/// The newest Landlock whose meaning was read; what a kernel lacks of it is left out.
const KNOWN: ABI = ABI::V6;

/// Why something could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// The kernel was built or started without it.
    #[error("not in this kernel")]
    Absent,
    /// The kernel said no.
    #[error(transparent)]
    Refused(#[from] Errno),
    /// Landlock's rules could not be made.
    #[error(transparent)]
    Landlock(#[from] RulesetError),
    /// There is no filter of system calls.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// Threads that were there before have kept it.
    #[error("{0} threads run already")]
    Threads(usize),
}

/// What the process has given up.
#[derive(Debug)]
pub struct Confinement {
    /// All capabilities.
    pub capabilities: Result<(), Obstacle>,
    /// To gain privileges by running a program.
    pub no_new_privs: Result<(), Obstacle>,
    /// To make, change or run files, and to signal other processes; with the version of Landlock.
    pub landlock: Result<u32, Obstacle>,
    /// All system calls but those on the list.
    pub seccomp: Result<(), Obstacle>,
}

/// Confines this process to what the server needs: sockets of IP, files to be read, threads, memory, and files to be made
/// and replaced in `folder`, if there is one. For good.
///
/// To be called on the main thread before there is another; sockets may be made before or after.
pub fn server(folder: Option<&Path>) -> Confinement {
    let threads = threads();
    let alone = || if threads == 1 { Ok(()) } else { Err(Obstacle::Threads(threads)) };
    Confinement {
        capabilities: drop_capabilities().and_then(|()| alone()),
        no_new_privs: set_no_new_privs(true).map_err(Obstacle::from),
        landlock: restrict_files(folder).and_then(|version| alone().map(|()| version)),
        // The last, for it forbids the calls that the others make. It takes in all threads.
        seccomp: seccomp::load(folder.is_some()).map_err(Obstacle::from),
    }
}

impl fmt::Display for Confinement {
    /// One line: `no capabilities, no new privileges, seccomp; without landlock (not in this kernel)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("no capabilities", "dropping capabilities", self.capabilities.as_ref().err()),
            ("no new privileges", "no new privileges", self.no_new_privs.as_ref().err()),
            ("landlock", "landlock", self.landlock.as_ref().err()),
            ("seccomp", "seccomp", self.seccomp.as_ref().err()),
        ];
        let done: Vec<&str> =
            parts.iter().filter(|(.., obstacle)| obstacle.is_none()).map(|(done, ..)| *done).collect();
        f.write_str(&done.join(", "))?;
        for (_, missing, obstacle) in parts {
            if let Some(obstacle) = obstacle {
                write!(f, "; without {missing} ({obstacle})")?;
            }
        }
        Ok(())
    }
}

/// How many threads the process has; 0 when that cannot be seen.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Gives up all capabilities of this thread and those it starts.
fn drop_capabilities() -> Result<(), Obstacle> {
    // To take them out of the bounding set is itself a privilege. Without it they stay there, and cannot be had: no
    // program gets any that was started without new privileges.
    for bit in 0..u64::BITS {
        if remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)).is_err() {
            break;
        }
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

/// Gives up changing and running files, for this thread and those it starts; what is open stays so, and what is in
/// `folder` may be changed, if that is there.
fn restrict_files(folder: Option<&Path>) -> Result<u32, Obstacle> {
    let given_up: BitFlags<AccessFs> = AccessFs::from_write(KNOWN) | AccessFs::Execute;
    let mut rules = Ruleset::default().handle_access(given_up)?.scope(Scope::from_all(KNOWN))?.create()?;
    // One that is not there now may be whosever it will be then.
    if let Some(Ok(folder)) = folder.map(PathFd::new) {
        // To be made, filled, and put in the place of another, which is removed.
        let kept = AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::RemoveFile;
        rules = rules.add_rule(PathBeneath::new(folder, kept))?;
    }
    match rules.restrict_self()?.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok(effective_abi as u32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Err(Obstacle::Absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::process::Command;
    use std::thread;

    /// Both are a thread's, and end with it.
    fn in_a_thread(test: impl FnOnce() + Send + 'static) {
        thread::spawn(test).join().unwrap();
    }

    /// Runs `test` where files are restricted but for `folder`, unless the kernel cannot do that.
    fn restricted(folder: Option<&Path>, test: impl FnOnce() + Send + 'static) {
        let folder = folder.map(Path::to_owned);
        in_a_thread(move || match restrict_files(folder.as_deref()) {
            Ok(version) => {
                assert!(version > 0);
                test();
            }
            Err(Obstacle::Absent) if std::env::var("CI").as_deref() != Ok("true") => {
                println!("skipped: needs Landlock in the kernel");
            }
            Err(other) => panic!("{other}"),
        });
    }

    fn is_denied<T>(done: std::io::Result<T>) -> bool {
        done.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn files_are_read_but_neither_changed_nor_run() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        assert!(Command::new("/bin/true").status().unwrap().success());
        for folder in [None, Some(Path::new("/no/such/folder"))] {
            let path = path.clone();
            restricted(folder, move || {
                assert_eq!(fs::read(&path).unwrap(), b"");
                assert!(is_denied(File::create(&path)));
                assert!(is_denied(fs::remove_file(&path)));
                assert!(is_denied(Command::new("/bin/true").status()));
            });
        }
    }

    #[test]
    fn in_one_folder_files_may_be_made_and_replaced_and_nothing_else() {
        let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let paths = [ours.path().to_owned(), other.path().to_owned()];
        fs::write(paths[1].join("a"), "kept").unwrap();
        let folder = paths[0].clone();
        restricted(Some(&folder), move || {
            let [ours, other] = paths;
            for content in ["first", "second"] {
                fs::write(ours.join("new"), content).unwrap();
                File::options().write(true).open(ours.join("new")).unwrap().set_len(1).unwrap();
                fs::rename(ours.join("new"), ours.join("cache")).unwrap();
            }
            assert_eq!(fs::read(ours.join("cache")).unwrap(), b"s");
            assert!(is_denied(fs::create_dir(ours.join("folder"))));
            assert!(is_denied(std::os::unix::fs::symlink("/etc", ours.join("link"))));
            assert!(fs::rename(ours.join("cache"), other.join("a")).is_err());
            assert!(is_denied(File::options().write(true).open(other.join("a"))));
            assert!(is_denied(File::create(other.join("b"))));
            assert!(is_denied(fs::remove_file(other.join("a"))));
            assert!(is_denied(Command::new("/bin/true").status()));
        });
    }

    #[test]
    fn no_capability_is_left_nor_can_be_had_again() {
        in_a_thread(|| {
            drop_capabilities().unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
            }
            let all = CapabilitySet::NET_ADMIN;
            assert!(
                set_capabilities(None, CapabilitySets { effective: all, permitted: all, inheritable: all }).is_err()
            );
        });
    }

    #[test]
    fn what_is_missing_is_said_with_the_reason() {
        let mut confinement =
            Confinement { capabilities: Ok(()), no_new_privs: Ok(()), landlock: Ok(6), seccomp: Ok(()) };
        assert_eq!(confinement.to_string(), "no capabilities, no new privileges, landlock, seccomp");
        confinement.capabilities = Err(Obstacle::Threads(3));
        confinement.landlock = Err(Obstacle::Absent);
        assert_eq!(
            confinement.to_string(),
            "no new privileges, seccomp; without dropping capabilities (3 threads run already); \
             without landlock (not in this kernel)"
        );
    }
}
