//! The `nodens` binary as a process: run to its end, or in the background until dropped.

use super::DEADLINE;
use std::io::{BufRead, BufReader};
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
