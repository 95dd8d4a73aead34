//! The log as its reader sees it. There is one logger per process, so each test runs this program once more, as a child.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Names what a child does; a process without it is the test run itself.
const ROLE: &str = "NODENS_TEST_LOG_ROLE";

/// What children do: nothing in the test run itself.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let format = match role.as_str() {
        "text" => Format::Text,
        "coredns" => Format::Coredns,
        _ => Format::Auto,
    };
    let log = init(format, LevelFilter::INFO).unwrap();
    match role.as_str() {
        "json" | "text" => {
            tracing::info!(name = %"a\nb\x1b[2J", "hello");
            tracing::debug!("too fine");
            log.set_level(LevelFilter::DEBUG).unwrap();
            tracing::debug!("fine");
            tracing::warn!(target: "hickory_server", "heard when debugging");
            log.set_level(LevelFilter::WARN).unwrap();
            tracing::info!("too fine again");
            tracing::error!(target: "hickory_server", "not heard");
        }
        "coredns" => {
            tracing::info!("plain");
            tracing::warn!(server = %"10.0.0.1:53", n = 3, reason = "a\nb", "with fields");
            tracing::error!("plugin/errors: 2 example.org. A: i/o timeout");
            tracing::debug!("too fine");
        }
        "blocked" => {
            (0..100_000).for_each(|n| tracing::info!(n, "{}", "x".repeat(200)));
            // What the parent cannot read on stderr, since it does not read it.
            println!("\nlost {}", log.lost());
        }
        "resumed" => {
            std::thread::spawn(|| {
                // Against a parent that waits for a line that never comes.
                std::thread::sleep(Duration::from_secs(60));
                std::process::exit(1);
            });
            (0..10_000).for_each(|n| tracing::info!(n, "{}", "x".repeat(200)));
            println!("\nlost {}", log.lost());
            std::io::stdin().read_to_string(&mut String::new()).unwrap();
        }
        "panic" => {
            let thread = std::thread::Builder::new().name("worker".to_owned());
            assert!(thread.spawn(|| panic!("out of {}", "luck")).unwrap().join().is_err());
        }
        other => unreachable!("{other}"),
    }
    log.flush();
}

fn start(role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "observe::log::tests::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The lines a child logs.
fn lines(role: &str) -> Vec<String> {
    let output = start(role).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn json_when_stderr_is_no_terminal() {
    let lines: Vec<serde_json::Value> = lines("json").iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["message"], "hello");
    assert_eq!(lines[0]["name"], "a\nb\x1b[2J");
    assert_eq!(lines[0]["level"], "INFO");
    assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    let messages: Vec<_> = lines.iter().map(|l| l["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["hello", "fine", "heard when debugging"], "the level follows set_level");
}

#[test]
fn f15_text_keeps_one_event_on_one_line_and_sends_no_escape() {
    let lines = lines("text");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("INFO") && lines[0].ends_with(r"hello name=a\nb\u{1b}[2J"), "{}", lines[0]);
}

#[test]
fn lines_of_corednss_form_go_to_standard_output() {
    let output = start("coredns").wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // The test run itself says more, and that on the same line.
    let lines: Vec<&str> = text.lines().filter_map(|line| line.get(line.find('[')?..)).collect();
    let want = [
        "[INFO] plain",
        r#"[WARNING] with fields server=10.0.0.1:53 n=3 reason="a\nb""#,
        "[ERROR] plugin/errors: 2 example.org. A: i/o timeout",
    ];
    assert_eq!(lines, want);
}

#[test]
fn g09_a_blocked_stderr_blocks_nobody() {
    let mut child = start("blocked");
    let deadline = Instant::now() + Duration::from_secs(120);
    let status = loop {
        // Its stderr is a pipe that nobody reads: a writer that waits would wait here for ever.
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the child waits for its stderr to be read");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status:?}");
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let lost = out.lines().find_map(|l| l.strip_prefix("lost ")).unwrap();
    assert!(lost.parse::<u64>().unwrap() > 0, "all of it cannot have fitted: {out}");
}

#[test]
fn g09_the_loss_is_reported_once_the_reader_is_back() {
    let mut child = start("resumed");
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lost: u64 = said.find_map(|line| line.strip_prefix("lost ")?.parse().ok()).unwrap();
    let mut logged = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let report = logged.find(|line| line.contains("log lines were dropped")).expect("no report");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["lines"], lost);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn g12_a_panic_is_logged_with_thread_place_and_reason() {
    let lines = lines("panic");
    let panic: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(panic["message"], "panic");
    assert_eq!(panic["level"], "ERROR");
    assert_eq!(panic["thread"], "worker");
    assert_eq!(panic["reason"], "out of luck");
    assert!(panic["location"].as_str().unwrap().contains("log/tests.rs:"));
}
