//! The system calls that the server makes, and no others: a seccomp filter.
//!
//! Whatever is not on the list, or has arguments that it does not allow, fails with ENOSYS: what asks for something newer
//! than the list then falls back to what it did before there was that, as glibc does from `clone3`, whose flags no filter
//! can see, to `clone`. The list is what the code was seen to use with glibc, and what musl uses in its place.

#![expect(unsafe_code, reason = "loading a filter with flags that no safe crate passes")]

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::io;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be built for this machine.
    #[error("cannot build the filter: {0}")]
    Build(#[from] BackendError),
    /// The kernel does not take it.
    #[error("the kernel refuses the filter: {0}")]
    Load(io::Error),
}

/// Calls that are allowed whatever their arguments.
const FREE: &[libc::c_long] = &[
    // Sockets.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    // Files, which are only read (`openat` is below).
    libc::SYS_close,
    libc::SYS_faccessat,
    libc::SYS_fstat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory (`mmap` and `mprotect` are below).
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads and the process itself (`clone` and signals to itself are below).
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Signals that come.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // What is read of the system: times where they take a call, chance, names.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Calls that write a file and put it in the place of another.
const FILES: &[libc::c_long] = &[libc::SYS_flock, libc::SYS_fsync, libc::SYS_ftruncate, libc::SYS_renameat];

/// Calls that newer machines do not have any more.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

/// What is done to descriptors: no signals are asked of them.
const FCNTL: [libc::c_int; 6] =
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// What is asked of devices: not to wait, and whether they are terminals.
const IOCTL: [libc::Ioctl; 5] = [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD, libc::TCGETS, libc::TIOCGWINSZ];

/// What a thread changes or asks of itself: names, for itself and for its memory, and the features of the processor.
const PRCTL: [libc::c_int; 4] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, PR_GET_AUXV];

/// `PR_GET_AUXV` of linux/prctl.h.
const PR_GET_AUXV: libc::c_int = 0x4155_5856;

/// Flags of `open` that make or change a file.
const CHANGES: libc::c_int = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;

/// Flags of `clone` that leave the namespaces of the process.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// The bits of a socket's type that are not flags.
const TYPE: libc::c_int = 0xf;

/// All bits of an `int`.
const ALL: libc::c_int = -1;

/// Loads the filter, for all threads there are and will be. There is no way back. Files may be made and replaced if they
/// are to be `written`.
///
/// # Errors
/// When this machine or kernel knows no such filters.
pub(super) fn load(written: bool) -> Result<(), Error> {
    let program = program(written)?;
    let told = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|e| Error::Load(io::Error::other(e)))?,
        // The same three fields under two names.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // Without SPEC_ALLOW, kernels before 5.16 slow the whole process down against an attack from code that it runs for
    // others, of which it has none.
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel copies `len` instructions of the program, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const told) };
    match done {
        0 => Ok(()),
        thread @ 1.. => Err(Error::Load(io::Error::other(format!("thread {thread} has another filter")))),
        _ => Err(Error::Load(io::Error::last_os_error())),
    }
}

/// The filter for this process.
fn program(written: bool) -> Result<BpfProgram, BackendError> {
    let mut list = List::default();
    list.free(FREE);
    list.free(OLD);
    for (family, kind, protocol) in [
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP),
        (libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        (libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP),
    ] {
        for protocol in [0, protocol] {
            list.when(libc::SYS_socket, &[(0, ALL, family), (1, TYPE, kind), (2, ALL, protocol)])?;
        }
    }
    list.when(libc::SYS_socketpair, &[(0, ALL, libc::AF_UNIX)])?;
    list.when(libc::SYS_openat, &[(2, CHANGES, libc::O_RDONLY)])?;
    #[cfg(target_arch = "x86_64")]
    list.when(libc::SYS_open, &[(1, CHANGES, libc::O_RDONLY)])?;
    if written {
        list.free(FILES);
        list.when(libc::SYS_openat, &[(2, CHANGES, libc::O_WRONLY | libc::O_CREAT)])?;
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        list.when(call, &[(2, libc::PROT_EXEC, 0)])?;
    }
    list.when(libc::SYS_clone, &[(0, libc::CLONE_THREAD | NAMESPACES, libc::CLONE_THREAD)])?;
    // How a process aborts. musl's way names a thread of whatever process: no other signal than that one.
    list.when(libc::SYS_tgkill, &[(0, ALL, std::process::id().cast_signed())])?;
    #[cfg(target_env = "musl")]
    list.when(libc::SYS_tkill, &[(1, ALL, libc::SIGABRT)])?;
    // Limits of this process, not of another.
    list.when(libc::SYS_prlimit64, &[(0, ALL, 0)])?;
    for command in FCNTL {
        list.when(libc::SYS_fcntl, &[(1, ALL, command)])?;
    }
    for request in IOCTL {
        list.when(libc::SYS_ioctl, &[(1, ALL, request as libc::c_int)])?;
    }
    for option in PRCTL {
        list.when(libc::SYS_prctl, &[(0, ALL, option)])?;
    }
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    SeccompFilter::new(list.0, missing, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// What is allowed, by number; a call without rules is allowed whatever its arguments.
#[derive(Default)]
struct List(BTreeMap<i64, Vec<SeccompRule>>);

impl List {
    /// Allows `calls` whatever their arguments.
    fn free(&mut self, calls: &[libc::c_long]) {
        self.0.extend(calls.iter().map(|&call| (call, Vec::new())));
    }

    /// Allows `call` when of each of the arguments (by index) the masked bits are as given; all are `int`s, of which the
    /// kernel ignores the upper half of the register, or have no bit of meaning there.
    fn when(&mut self, call: libc::c_long, wanted: &[(u8, libc::c_int, libc::c_int)]) -> Result<(), BackendError> {
        let conditions = wanted.iter().map(|&(index, mask, value)| {
            let (mask, value) = (u64::from(mask.cast_unsigned()), u64::from(value.cast_unsigned()));
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
        });
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        self.0.entry(call).or_default().push(rule);
        Ok(())
    }
}
