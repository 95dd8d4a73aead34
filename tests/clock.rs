//! E3: time asleep counts. A machine cannot be suspended in a test, but a time namespace can be told that it was.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use nodens::sys::clock::Moment;
use std::process::{Command, Stdio};
use support::process::skip;

/// Set in the child: print what the clock says, in seconds.
const CHILD: &str = "NODENS_TEST_CLOCK";
/// How long the child's machine has slept more than ours, in seconds.
const ASLEEP: u64 = 360_000;

#[test]
fn e03_time_asleep_makes_answers_older() {
    if std::env::var_os(CHILD).is_some() {
        println!("clock: {}", Moment::now().0 / 1_000_000_000);
        return;
    }
    let mut child = Command::new("unshare");
    child.args(["--time", "--boottime", &ASLEEP.to_string(), "--fork"]).arg(std::env::current_exe().unwrap());
    child
        .args(["--exact", "e03_time_asleep_makes_answers_older", "--nocapture"])
        .env(CHILD, "1")
        .stderr(Stdio::piped());
    let Ok(output) = child.output() else { return skip("needs unshare") };
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(asleep) = text.lines().find_map(|line| line.split("clock: ").nth(1)?.parse::<u64>().ok()) else {
        return skip(&format!("needs root and time namespaces: {}", String::from_utf8_lossy(&output.stderr)));
    };
    let awake = Moment::now().0 / 1_000_000_000;
    assert!((ASLEEP - 60..ASLEEP + 60).contains(&(asleep - awake)), "{asleep} there, {awake} here");
}
