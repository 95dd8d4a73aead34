//! Who may ask; what becomes of the process when a part of it panics. The daemon runs in a child then: this program, run
//! once more.

use super::*;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Where the child's health is to be served; a process without it is the test run itself.
const HEALTH: &str = "NODENS_TEST_APP_HEALTH";

/// Does it answer at `health`?
fn is_alive(health: &str) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(health) else { return false };
    let mut answer = String::new();
    let asked = write!(stream, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.contains("200 OK")
}

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
    config.listen.addresses[0].set_port(0);
    std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let begin = Instant::now();
            while !is_alive(&health) {
                assert!(begin.elapsed() < Duration::from_secs(20), "not alive in time");
                std::thread::sleep(LOOK);
            }
            panic!("out of luck");
        })
        .unwrap();
    let options = Options {
        config,
        text,
        watcher: None,
        passed_over: Vec::new(),
        rendered: None,
        overrides: Overrides::default(),
        last_good: None,
    };
    run(options).unwrap();
}

#[test]
fn g12_a_panic_is_logged_and_ends_the_process() {
    let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "app::tests::child", "--nocapture", "--test-threads=1"])
        .env(HEALTH, health.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{:?}\n{log}", output.status);
    assert!(log.contains("out of luck") && log.contains("\"worker\""), "{log}");
}

#[test]
fn g12_the_release_profile_aborts_on_panic() {
    let manifest = include_str!("../../Cargo.toml");
    let (_, release) = manifest.split_once("[profile.release]").unwrap();
    let release = release.split("\n[").next().unwrap();
    assert!(release.lines().any(|line| line == "panic = \"abort\""), "{release}");
}

#[test]
fn the_host_itself_may_always_ask() {
    let text = "listen: { addresses: [169.254.20.10, 'fd00::a'], allowFrom: [10.0.0.0/8] }";
    let acl = acl(&config::load_str("test", text).unwrap().config);
    for (client, allowed) in [
        ("10.1.2.3", true),
        ("169.254.20.10", true),
        ("fd00::a", true),
        ("127.116.20.10", true),
        ("::1", true),
        ("169.254.20.11", false),
        ("fd00::b", false),
    ] {
        assert_eq!(acl.allows(client.parse().unwrap()), allowed, "{client}");
    }
}
