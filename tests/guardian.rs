//! What may go wrong around a guardian: other instances that are in trouble, a server that floods it, a host that is
//! busy or hostile. Clients keep their DNS, and the guardian its temper.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::Duration;
use world::clients::Asking;
use world::guardian::{Setup, signal, stages};
use world::proxy::Proxy;
use world::report::worst;
use world::{World, alone};

/// The longest time without an answer that is borne.
const GAP: u64 = 1000;

/// How many instances serve.
fn serving(world: &World) -> usize {
    stages(&world.node).get("serving").copied().unwrap_or(0)
}

/// Lets nobody start the program at `path`, or everybody.
fn forbid(path: &std::path::Path, forbidden: bool) {
    fs::set_permissions(path, fs::Permissions::from_mode(if forbidden { 0 } else { 0o755 })).unwrap();
}

/// Sockets that nobody reads would get half of the packets of the instance that comes to the rescue.
#[test]
fn g14_an_instance_without_a_server_does_not_keep_another_from_serving() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("nodens");
    fs::copy(support::process::NODENS, &program).unwrap();
    let mut old = Setup { program: program.clone(), ..Setup::default() }.start(&world);
    forbid(&program, true);
    signal(old.server_pid(), "KILL");
    old.until("nothing is captured", || serving(&world) == 0);
    let setup = Setup::default();
    let asking = Asking::start(&world.pods[0], &["--rate=50", "--timeout=300"], &setup.targets());
    let mut new = setup.launch(&world);
    new.until("the other serves", || setup.is_served(&world));
    sleep(Duration::from_secs(1));
    let figures = asking.finish();
    assert!(worst(&figures, |f| f.longest_gap_ms) <= GAP, "{figures:#?}");
    forbid(&program, false);
}

/// The one that stops last leads packets nowhere, though the first one is still at it.
#[test]
fn g01_two_that_stop_one_after_the_other_leave_nobody_behind() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut old = setup.start(&world);
    let mut new = setup.launch(&world);
    new.until("both serve", || serving(&world) == 2);
    let asking = Asking::start(&world.pods[0], &["--rate=50", "--timeout=300"], &setup.targets());
    sleep(Duration::from_millis(300));
    // It will not be ready in time.
    signal(old.server_pid(), "STOP");
    signal(old.pid(), "TERM");
    sleep(Duration::from_millis(200));
    signal(new.pid(), "TERM");
    sleep(Duration::from_millis(2500));
    let figures = asking.finish();
    assert!(worst(&figures, |f| f.longest_gap_ms) <= GAP, "{figures:#?}\n{}\n{}", old.log(), new.log());
}
