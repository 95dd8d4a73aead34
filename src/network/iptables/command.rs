//! The programs of iptables, run to their end or to a deadline, and what can go wrong with them.

use super::rules::{self, Edit};
use super::saved::Saved;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What iptables exits with when it did not get what it needs, such as its lock.
const RESOURCE_PROBLEM: i32 = 4;

/// What a program may take beside waiting for its lock: there may be a hundred thousand rules.
const WORK: Duration = Duration::from_secs(4);

/// Why rules are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program, or it cannot be run.
    #[error("cannot run {program}: {reason}; iptables and ip6tables must be installed where nodens runs")]
    Missing {
        /// As it was called.
        program: String,
        /// What the kernel, or the program, said.
        reason: String,
    },
    /// Somebody else works on the rules and does not stop.
    #[error("{program} did not get the xtables lock within {} s: another program holds it", .waited.as_secs())]
    Locked {
        /// As it was called.
        program: String,
        /// How long it tried.
        waited: Duration,
    },
    /// It did not end, and was killed.
    #[error("{program} did not end within {} s and was killed", .after.as_secs())]
    Deadline {
        /// As it was called.
        program: String,
        /// How long it was given.
        after: Duration,
    },
    /// It said no.
    #[error("{program} failed: {message}")]
    Failed {
        /// As it was called.
        program: String,
        /// What it wrote to standard error.
        message: String,
    },
    /// Somebody wrote to a table of iptables in ways that only `nft` can show: what there is of ours is not known.
    #[error("{program} cannot read the table {table}, to which somebody wrote with nft; those rules must go elsewhere")]
    Unreadable {
        /// As it was called.
        program: String,
        /// The table.
        table: String,
    },
}

impl Error {
    /// Under which of node-cache's names it is counted.
    pub fn name(&self) -> &'static str {
        if matches!(self, Error::Locked { .. }) { "iptables_lock" } else { "iptables" }
    }
}

/// How the kernel keeps rules that iptables wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In nftables.
    Nft,
    /// In tables of their own.
    Legacy,
}

/// `iptables` or `ip6tables`, with its companions `-save` and `-restore`.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    /// `iptables`, `/usr/sbin/ip6tables-legacy`, …
    pub(super) program: String,
    pub(super) backend: Backend,
}

impl Tool {
    /// Makes sure that `program` and its companions run.
    pub(super) fn find(program: &str, patience: Duration) -> Result<Tool, Error> {
        let mut version = String::new();
        for companion in ["-save", "-restore", ""] {
            version =
                run(&format!("{program}{companion}"), &["--version"], "", patience).map_err(|error| match error {
                    Error::Failed { program, message } => Error::Missing { program, reason: message },
                    other => other,
                })?;
        }
        // Older versions, of which there was but one kind, do not say.
        let backend = if version.contains("nf_tables") { Backend::Nft } else { Backend::Legacy };
        Ok(Tool { program: program.to_owned(), backend })
    }

    /// The same of the other backend, in the same directory.
    pub(super) fn other(&self) -> Tool {
        let program = self.program.trim_end_matches("-nft").trim_end_matches("-legacy");
        let (ending, backend) = match self.backend {
            Backend::Nft => ("legacy", Backend::Legacy),
            Backend::Legacy => ("nft", Backend::Nft),
        };
        Tool { program: format!("{program}-{ending}"), backend }
    }

    /// Is it the one for IPv6?
    pub(super) fn is_v6(&self) -> bool {
        file(&self.program).1.starts_with("ip6")
    }

    /// The rules of `tables`. Loads no modules.
    pub(super) fn save(&self, tables: &[&str], patience: Duration) -> Result<Saved, Error> {
        let program = format!("{}-save", self.program);
        let mut text = String::new();
        for table in tables.iter().filter(|table| self.backend == Backend::Nft || legacy_has(table, self.is_v6())) {
            text += &run(&program, &["-t", table], "", patience)?;
        }
        Ok(Saved::parse(&text))
    }

    /// Makes `edits`: all or, in each table, none of them.
    pub(super) fn restore(&self, edits: &[Edit], patience: Duration) -> Result<(), Error> {
        let wait = patience.as_secs().max(1).to_string();
        let program = format!("{}-restore", self.program);
        run(&program, &["--noflush", "-w", &wait], &rules::restore(edits), patience).map(drop)
    }
}

/// `ip6tables` for `iptables`, with the same directory and ending.
pub(super) fn sixth(program: &str) -> String {
    let (directory, name) = file(program);
    format!("{directory}ip6{}", name.trim_start_matches("ip"))
}

/// A path as directory, with its slash if there is one, and name.
fn file(program: &str) -> (&str, &str) {
    program.split_at(program.rfind('/').map_or(0, |at| at + 1))
}

/// Has the kernel such a table of the old kind? To ask for one that it has not loads it. When it does not tell, it may.
fn legacy_has(table: &str, v6: bool) -> bool {
    let names = if v6 { "ip6_tables_names" } else { "ip_tables_names" };
    match fs::read_to_string(format!("/proc/thread-self/net/{names}")) {
        Ok(names) => names.lines().any(|name| name == table),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Runs `program` and returns what it writes. It may wait for its lock for `patience`, and take [`WORK`] on top.
fn run(program: &str, arguments: &[&str], input: &str, patience: Duration) -> Result<String, Error> {
    let missing = |error: io::Error| Error::Missing { program: program.to_owned(), reason: error.to_string() };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that whatever it starts is killed with it.
    let mut child = command.process_group(0).spawn().map_err(missing)?;
    let group = rustix::process::Pid::from_child(&child);
    let (send, receive) = mpsc::channel();
    let input = input.to_owned();
    thread::spawn(move || {
        if let Some(mut stdin) = child.stdin.take() {
            // That it does not read is told by how it exits.
            let _ = stdin.write_all(input.as_bytes());
        }
        let _ = send.send(child.wait_with_output());
    });
    let after = patience + WORK;
    let Ok(output) = receive.recv_timeout(after) else {
        // It may have ended in this very moment.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        return Err(Error::Deadline { program: program.to_owned(), after });
    };
    let output = output.map_err(missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let program = program.to_owned();
    if output.status.code() == Some(RESOURCE_PROBLEM) && message.contains("holding the xtables lock") {
        return Err(Error::Locked { program, waited: patience });
    }
    Err(Error::Failed { program, message: if message.is_empty() { output.status.to_string() } else { message } })
}
