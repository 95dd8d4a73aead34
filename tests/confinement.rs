//! What a confined process can do and what it cannot, and what a process takes over from the one that started it.
//!
//! Confinement is for good, so each test runs itself again as a process of its own and confines that.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]
#![expect(unsafe_code, reason = "system calls that nothing offers, for they are to fail")]

use nodens::sys::confine::{self, Obstacle};
use nodens::sys::spawn::{self, Ending, Spawn};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

/// Set in the process that a test starts of itself.
const INSIDE: &str = "NODENS_TEST_INSIDE";

/// Arguments that run this binary's test `name` alone.
fn arguments(name: &str) -> [&str; 4] {
    [name, "--exact", "--nocapture", "--test-threads=1"]
}

/// The process that runs the test of this thread again; `None` when this is that process.
fn again() -> Option<Output> {
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let name = thread::current().name().unwrap().to_owned();
    let mut command = Command::new(std::env::current_exe().unwrap());
    Some(command.args(arguments(&name)).env(INSIDE, "1").output().unwrap())
}

/// The process has gone well.
fn check(output: &Output) {
    let said = [&*output.stdout, &*output.stderr].concat();
    assert!(output.status.success(), "{:?}\n{}", output.status, String::from_utf8_lossy(&said));
}

/// Confines this thread and those it starts; the test's main thread, which waits, is said to be less confined.
fn confine() {
    confine_but_for(None);
}

/// The same, but for a folder that may be written in.
fn confine_but_for(folder: Option<&Path>) {
    let confinement = confine::server(folder);
    assert!(matches!(confinement.capabilities, Err(Obstacle::Threads(2))), "{confinement}");
    assert!(matches!(confinement.landlock, Err(Obstacle::Threads(2) | Obstacle::Absent)), "{confinement}");
    assert!(confinement.no_new_privs.is_ok(), "{confinement}");
    assert!(confinement.seccomp.is_ok(), "{confinement}");
}

/// What the kernel says to a system call with these arguments.
fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> Result<(), i32> {
    let [a, b, c, d] = arguments;
    // SAFETY: it is to be refused before any argument is looked at; those given would do no harm either.
    let done = unsafe { libc::syscall(number, a, b, c, d) };
    if done < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(()) }
}

#[test]
fn what_the_server_does_not_need_fails() {
    let Some(output) = again() else {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("confinement");
        fs::write(&file, "kept").unwrap();
        let parent = Pid::from_raw(std::os::unix::process::parent_id().cast_signed()).unwrap();
        confine();

        // Programs and processes.
        let missing = Some(libc::ENOSYS);
        assert!(Command::new("/bin/true").spawn().is_err(), "no other process");
        assert_eq!(Command::new("/bin/true").exec().raw_os_error(), missing, "no other program");
        assert_eq!(kill_process(parent, Signal::URG), Err(Errno::NOSYS));
        let parent = libc::c_long::from(parent.as_raw_pid());
        assert_eq!(call(libc::SYS_tgkill, [parent, parent, 0, 0]), Err(libc::ENOSYS));
        for namespace in [0, libc::CLONE_NEWUSER, libc::CLONE_THREAD | libc::CLONE_NEWNET] {
            assert_eq!(call(libc::SYS_clone, [namespace.into(), 0, 0, 0]), Err(libc::ENOSYS), "{namespace}");
        }

        // Sockets of other kinds.
        for (family, kind) in [
            (AddressFamily::NETLINK, SocketType::RAW),
            (AddressFamily::PACKET, SocketType::RAW),
            (AddressFamily::UNIX, SocketType::STREAM),
            (AddressFamily::INET, SocketType::RAW),
        ] {
            assert_eq!(rustix::net::socket(family, kind, None).err(), Some(Errno::NOSYS), "{family:?} {kind:?}");
        }
        let sctp = rustix::net::ipproto::SCTP;
        let sctp = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(sctp));
        assert_eq!(sctp.err(), Some(Errno::NOSYS));

        // Files.
        assert!(File::create(&file).is_err());
        assert!(OpenOptions::new().write(true).open(&file).is_err());
        assert!(OpenOptions::new().append(true).open("/dev/null").is_err());
        assert!(fs::remove_file(&file).is_err());
        assert!(fs::rename(&file, file.with_extension("b")).is_err());
        assert!(fs::create_dir(file.with_extension("c")).is_err());
        for number in [libc::SYS_flock, libc::SYS_fsync, libc::SYS_ftruncate, libc::SYS_renameat] {
            assert_eq!(call(number, [-1; 4]), Err(libc::ENOSYS), "call {number}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"kept");

        // Privileges.
        let bind = CapabilitySet::NET_BIND_SERVICE;
        let sets = CapabilitySets { effective: bind, permitted: bind, inheritable: bind };
        assert!(set_capabilities(None, sets).is_err());
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        for line in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{line}:\t0000000000000000\n")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");

        // What attacks on a kernel begin with.
        let executable = libc::PROT_READ | libc::PROT_EXEC;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        assert_eq!(call(libc::SYS_mmap, [0, 4096, executable.into(), anonymous.into()]), Err(libc::ENOSYS));
        for number in [
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_memfd_create,
            libc::SYS_mount,
            libc::SYS_perf_event_open,
            libc::SYS_personality,
            libc::SYS_pidfd_open,
            libc::SYS_process_vm_writev,
            libc::SYS_ptrace,
            libc::SYS_setns,
            libc::SYS_setuid,
            libc::SYS_unshare,
            libc::SYS_userfaultfd,
        ] {
            assert_eq!(call(number, [-1; 4]), Err(libc::ENOSYS), "call {number}");
        }
        return;
    };
    check(&output);
}

/// With a folder to write in, that folder is all that is added.
#[test]
fn a_file_can_be_replaced_in_the_one_folder_and_nowhere_else() {
    let Some(output) = again() else {
        use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, ftruncate, openat, renameat};
        let [ours, other] = ["ours", "other"].map(|name| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        for folder in [&ours, &other] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("cache"), "old").unwrap();
        }
        confine_but_for(Some(&ours));
        let open = |path: &Path| openat(CWD, path, OFlags::WRONLY | OFlags::CREATE, Mode::RUSR | Mode::WUSR);
        for content in ["first", "second"] {
            let mut new = File::from(open(&ours.join("new")).unwrap());
            flock(&new, FlockOperation::NonBlockingLockExclusive).unwrap();
            ftruncate(&new, 0).unwrap();
            new.write_all(content.as_bytes()).unwrap();
            new.sync_all().unwrap();
            renameat(CWD, ours.join("new"), CWD, ours.join("cache")).unwrap();
        }
        assert_eq!(fs::read(ours.join("cache")).unwrap(), b"second");

        for name in ["cache", "new"] {
            assert_eq!(open(&other.join(name)).err(), Some(Errno::ACCESS), "{name}");
        }
        assert!(renameat(CWD, ours.join("cache"), CWD, other.join("cache")).is_err());
        assert!(renameat(CWD, other.join("cache"), CWD, ours.join("cache")).is_err());
        for flags in [OFlags::RDWR | OFlags::CREATE, OFlags::WRONLY, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC] {
            assert_eq!(openat(CWD, ours.join("cache"), flags, Mode::RUSR).err(), Some(Errno::NOSYS), "{flags:?}");
        }
        assert!(fs::remove_file(ours.join("cache")).is_err());
        assert!(fs::create_dir(ours.join("folder")).is_err());
        assert!(Command::new("/bin/true").spawn().is_err());
        assert_eq!(fs::read(other.join("cache")).unwrap(), b"old");
        assert_eq!(fs::read(ours.join("cache")).unwrap(), b"second");
        return;
    };
    check(&output);
}

#[test]
fn what_the_server_needs_works() {
    let Some(output) = again() else {
        confine();
        assert!(!fs::read(std::env::current_exe().unwrap()).unwrap().is_empty());
        assert!(fs::read_dir("/proc/self/fd").unwrap().count() > 2);
        assert_eq!(fs::read_link("/proc/self").unwrap().to_str().unwrap(), std::process::id().to_string());

        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(address) else { continue };
            socket.send_to(b"udp", socket.local_addr().unwrap()).unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 3);
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let client = thread::Builder::new().name("client".to_owned());
            let client = client.spawn(move || TcpStream::connect(address).unwrap().write_all(b"tcp")).unwrap();
            let mut got = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
            assert_eq!(got, b"tcp");
            client.join().unwrap().unwrap();
        }

        let panicked = thread::spawn(|| {
            thread::sleep(Duration::from_millis(1));
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            assert!(trace.contains("what_the_server_needs_works"), "{trace}");
            panic!("as it should");
        });
        assert_eq!(panicked.join().unwrap_err().downcast_ref(), Some(&"as it should"));

        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
            assert!(hangup.is_ok());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let client = tokio::spawn(tokio::net::TcpStream::connect(address));
            listener.accept().await.unwrap();
            client.await.unwrap().unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        });
        return;
    };
    check(&output);
}

#[test]
fn a_confined_process_can_abort() {
    let Some(output) = again() else {
        confine();
        std::process::abort();
    };
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}

/// Starts the test of this thread again by [`Spawn`], with `sockets`.
fn spawn_again(sockets: &[BorrowedFd<'_>]) -> Ending {
    let name = thread::current().name().unwrap().to_owned();
    let exe = std::env::current_exe().unwrap();
    let mut all = vec![format!("{INSIDE}=1").into(), exe.into_os_string()];
    all.extend(arguments(&name).map(Into::into));
    Spawn { program: Path::new("/usr/bin/env"), arguments: &all, sockets }.start().unwrap().wait().unwrap()
}

#[test]
fn descriptors_are_inherited_in_order_and_once() {
    if std::env::var_os(INSIDE).is_some() {
        let taken = spawn::inherited(2).unwrap();
        File::from(taken[1].try_clone().unwrap()).write_all(b"second").unwrap();
        assert!(rustix::io::fcntl_getfd(&taken[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(spawn::inherited(2).unwrap_err().to_string(), "inherited descriptors were taken before");
        return;
    }
    let (first, (mut read, write)) = (UdpSocket::bind("127.0.0.1:0").unwrap(), io::pipe().unwrap());
    assert_eq!(spawn_again(&[first.as_fd(), write.as_fd()]), Ending::Exited(0));
    drop(write);
    let mut told = String::new();
    read.read_to_string(&mut told).unwrap();
    assert_eq!(told, "second");
}

#[test]
fn descriptors_that_were_not_passed_are_not_taken() {
    if std::env::var_os(INSIDE).is_some() {
        // The number is in use, by this process itself.
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(own.as_raw_fd(), 4);
        let message = "descriptor 4 was not passed to this process";
        assert_eq!(spawn::inherited(2).unwrap_err().to_string(), message);
        return;
    }
    let passed = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(spawn_again(&[passed.as_fd()]), Ending::Exited(0));
}

#[test]
fn a_program_that_is_not_there_is_an_error_and_no_socket_hears_of_it() {
    let Some(output) = again() else {
        let (mut read, write) = io::pipe().unwrap();
        let sockets = [write.as_fd(); 40];
        let spawn = Spawn { program: Path::new("/no/such/program"), arguments: &[], sockets: &sockets };
        assert_eq!(spawn.start().unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(write);
        assert_eq!(read.read(&mut [0]).unwrap(), 0);
        return;
    };
    check(&output);
}
