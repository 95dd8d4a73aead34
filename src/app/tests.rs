//! What becomes of the process when a part of it panics. The daemon runs in a child: this program, run once more.

use super::*;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Where the child's health is to be served; a process without it is the test run itself.
const HEALTH: &str = "NODENS_TEST_APP_HEALTH";

/// Runs the daemon, and panics beside it once it is alive; does nothing in the test run itself.
#[test]
fn child() {
    let Ok(health) = std::env::var(HEALTH) else { return };
    let text = format!(
        "listen: {{ addresses: [127.0.0.1], port: 9 }}\nmetrics: {{ listen: [] }}\nhealth: {{ listen: \"{health}\" }}\n\
         zones: [{{ match: [.], forward: {{ to: [127.0.0.9] }} }}]\n"
    );
    let mut config = config::load_str("test", &text).unwrap().config;
    // Any port that is free, which a file cannot ask for.
    config.listen.port = 0;
    std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let begin = Instant::now();
            while std::net::TcpStream::connect(&health).is_err() {
                assert!(begin.elapsed() < Duration::from_secs(20), "not alive in time");
                std::thread::sleep(LOOK);
            }
            panic!("out of luck");
        })
        .unwrap();
    let options = Options { config, source: None, fingerprint: 0, overrides: Overrides::default() };
    run(options).unwrap();
}

#[test]
fn g12_a_panic_is_logged_and_ends_the_process() {
    let health = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "app::tests::child", "--nocapture", "--test-threads=1"])
        .env(HEALTH, health.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{:?}\n{log}", output.status);
    assert!(log.contains("out of luck") && log.contains("\"worker\""), "{log}");
    assert!(log.contains("\"serving\""), "it was running: {log}");
}

#[test]
fn g12_the_release_profile_aborts_on_panic() {
    let manifest = include_str!("../../Cargo.toml");
    let (_, release) = manifest.split_once("[profile.release]").unwrap();
    let release = release.split("\n[").next().unwrap();
    assert!(release.lines().any(|line| line == "panic = \"abort\""), "{release}");
}
