//! A network of its own for a test: nothing it does to links, addresses, rules or mounts is seen outside.
//!
//! As root the test goes on in a thread that has left the host's namespaces. Otherwise the test binary runs again, for
//! that one test, as root of a user namespace. Children of the thread are in its namespaces too; other threads are not.
//! In the thread, read `/proc/thread-self/net` and not `/proc/net`, which is that of the process.

use super::process::{can_run, skip};
use rustix::thread::UnshareFlags;
use std::env;
use std::process::{Command, Output};
use std::thread;

/// Set for a test that runs in namespaces already.
const INSIDE: &str = "NODENS_TEST_ISOLATED";

/// Keeps mounts from the outside, and makes loopback addresses work.
const SETTLE: [&str; 2] = ["mount --make-rprivate /", "ip link set lo up"];

/// Runs the `body` of `test` with a network namespace, in which `lo` is up, and a mount namespace of its own; says that
/// it is skipped where neither root nor user namespaces are to be had.
pub fn isolated(test: &str, body: impl FnOnce() + Send) {
    if !SETTLE.into_iter().all(can_run) {
        return;
    }
    if env::var_os(INSIDE).is_some() {
        settle();
        return body();
    }
    let in_thread = || {
        let left = leave();
        if left {
            settle();
            body();
        }
        left
    };
    let left = thread::scope(|scope| scope.spawn(in_thread).join());
    // The panic of the body is that of the test.
    if !left.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
        as_root_of_a_user_namespace(test);
    }
}

/// Takes this thread out of the host's namespaces; false when that is not permitted.
#[expect(deprecated, reason = "what is unsafe about it is leaving a table of descriptors, which this does not")]
fn leave() -> bool {
    rustix::thread::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).is_ok()
}

/// Does what [`SETTLE`] says.
fn settle() {
    for line in SETTLE {
        run(line);
    }
}

/// Runs this test binary again, for `test` alone.
fn as_root_of_a_user_namespace(test: &str) {
    let unshare = |command: &str, arguments: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "--mount", "--", command]).args(arguments);
        unshare.env(INSIDE, "yes").output()
    };
    if !unshare("true", &[]).is_ok_and(|output| output.status.success()) {
        return skip("needs root or user namespaces");
    }
    let own = env::current_exe().unwrap();
    let output = unshare(own.to_str().unwrap(), &[test, "--exact", "--nocapture"]).unwrap();
    let text = text(&output);
    println!("{text}");
    assert!(output.status.success(), "the test failed in its namespace");
    assert!(text.contains("1 passed"), "no test of this binary is called {test}");
}

/// Runs `line` by the shell, where this thread is, and returns what it printed; panics when it fails.
pub fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// All that a command printed.
fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}
