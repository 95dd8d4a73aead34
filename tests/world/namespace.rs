//! A network namespace with a process that keeps it, and commands that run inside.
//!
//! As root they are namespaces of the host's user; otherwise all are below one user namespace, where the kernel allows.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// A namespace; it goes when this is dropped.
pub struct Namespace {
    /// Ends when its standard input does, which is at the latest when this process is gone.
    holder: Child,
    user: bool,
}

impl Namespace {
    /// The first namespace of a world, with mounts of its own.
    ///
    /// # Errors
    /// Why the kernel gives none.
    pub fn outer() -> Result<Namespace, String> {
        let user = !rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        if user {
            command.args(["--user", "--map-root-user"]);
        }
        Namespace::held(command.args(["--net", "--mount"]), user)
    }

    /// Another one beside this.
    pub fn beside(&self) -> Namespace {
        Namespace::held(self.command("unshare").arg("--net"), self.user).expect("one more namespace")
    }

    fn held(unshare: &mut Command, user: bool) -> Result<Namespace, String> {
        let command = unshare.args(["sh", "-c", "echo held; exec cat"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        let _ = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line);
        if line == "held\n" {
            return Ok(Namespace { holder, user });
        }
        let output = holder.wait_with_output().map_err(|error| error.to_string())?;
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// The process that keeps it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// `program`, to be run inside; its process id is that of the command.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid().to_string(), "--net", "--mount"]);
        if self.user {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program).stdin(Stdio::null());
        command
    }

    /// The same for something that would not end by itself: it is killed when the thread that started it ends.
    pub fn mortal(&self, program: &str) -> Command {
        let mut command = self.command("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command
    }

    /// Runs a shell script inside; it must succeed.
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{stdout}{stderr}");
        stdout.into_owned()
    }

    /// Runs a shell script inside, whatever comes of it.
    pub fn try_sh(&self, script: &str) -> Output {
        let mut command = self.command("sh");
        command.args(["-e"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsenter runs");
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts one of the tools inside.
    pub fn tool(&self, args: &[&str]) -> Tool {
        let mut command = self.command(tool_path().to_str().unwrap());
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("nsenter runs");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Tool { stdin: child.stdin.take(), child, lines }
    }

    /// The page at `path` of an HTTP server; empty when there is none.
    pub fn get(&self, address: &str, path: &str) -> String {
        let output = self.command(tool_path().to_str().unwrap()).args(["get", address, path]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A running tool; it ends with its standard input.
pub struct Tool {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Tool {
    /// Waits for a line.
    pub fn wait_for(&self, line: &str) {
        let patience = Duration::from_secs(20);
        while self.lines.recv_timeout(patience).unwrap_or_else(|error| panic!("no {line:?}: {error}")) != line {}
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends its input, which it takes for an end.
    pub fn stop(&mut self) {
        drop(self.stdin.take());
    }

    /// Stops it and gives what it still says.
    pub fn finish(mut self) -> Vec<String> {
        self.stop();
        let lines = self.lines.iter().collect();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a tool ended with {status}: {lines:?}");
        lines
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where cargo puts the tools.
pub fn tool_path() -> PathBuf {
    let bin = PathBuf::from(crate::support::process::NODENS);
    let path = bin.parent().unwrap().join("examples/dns_world");
    assert!(path.exists(), "{} is missing: run `cargo build --example dns_world`", path.display());
    path
}
