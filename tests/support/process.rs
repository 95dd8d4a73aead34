//! The `nodens` binary as a process: run to its end, or in the background until dropped.

use super::DEADLINE;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

/// The binary under test.
pub const NODENS: &str = env!("CARGO_BIN_EXE_nodens");

/// Runs `nodens` with `arguments` to its end.
pub fn nodens(arguments: &[&str]) -> Output {
    Command::new(NODENS).args(arguments).stdin(Stdio::null()).output().expect("nodens runs")
}

/// What a finished process wrote to standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8 on standard output")
}

/// What a finished process wrote to standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8 on standard error")
}

/// Runs `line` by the shell in `directory`, with the `nodens` under test found first.
pub fn shell(line: &str, directory: &Path) -> Output {
    let bin = Path::new(NODENS).parent().expect("the binary is in a directory");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", path).current_dir(directory).stdin(Stdio::null());
    command.output().expect("sh runs")
}

/// Can the first word of `line` be run here? If not, says that `line` is skipped; in CI that is a failure.
pub fn can_run(line: &str) -> bool {
    let tool = line.split(' ').next().unwrap_or_default();
    let found = shell(&format!("command -v {tool}"), Path::new("/")).status.success();
    if !found {
        skip(&format!("needs {tool}: {line}"));
    }
    found
}

/// Says that something is skipped and why; panics in CI (`CI=true`), where nothing is skipped.
pub fn skip(why: &str) {
    println!("skipped: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "in CI nothing is skipped: {why}");
}

/// A `nodens` in the background; killed when dropped.
pub struct Background {
    child: Child,
    lines: Receiver<String>,
}

impl Background {
    /// Starts `nodens` with `arguments`; what it writes to standard error goes to the test's own.
    pub fn start(arguments: &[&str]) -> Background {
        let mut child = Command::new(NODENS)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nodens starts");
        let stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let (send, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Background { child, lines }
    }

    /// Standard output up to and with the first line that contains `part`; panics when it does not come.
    pub fn wait_for(&self, part: &str) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(part);
                    seen.push(line);
                    if found {
                        return seen;
                    }
                }
                Err(e) => panic!("{part:?} did not come ({e}); what came: {seen:#?}"),
            }
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.child.wait().expect("nodens ends")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
