//! `nodens serve` in the background with a configuration of its own, on ports of its own.

use super::process::NODENS;
use super::{DEADLINE, ask_tcp, ask_udp, free_port};
use hickory_proto::op::Message;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    directory: TempDir,
    /// Where it answers DNS.
    pub dns: SocketAddr,
    /// Where metrics are.
    pub metrics: SocketAddr,
    /// Where health and readiness are.
    pub health: SocketAddr,
}

/// What is done to the command before it runs.
type Prepare<'a> = &'a dyn Fn(&mut Command);

impl Server {
    /// Starts one whose zones, and whatever else the test wants, are `config`, and waits until it is alive.
    pub fn start(config: &str) -> Server {
        Server::start_with(config, &|_| {})
    }

    /// The same, with a hand on the command.
    pub fn start_with(config: &str, prepare: Prepare<'_>) -> Server {
        let mut server = Server::launch(config, prepare);
        server
            .until("it is alive", |server| server.get(server.health, "/health").is_some_and(|r| r.contains("200 OK")));
        server
    }

    /// The same, without waiting for anything.
    pub fn launch(config: &str, prepare: Prepare<'_>) -> Server {
        let [dns, metrics, health] = [(); 3].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        Server::launch_at([dns, metrics, health], config, prepare)
    }

    /// The same, with addresses for DNS, metrics and health that the test has chosen.
    pub fn launch_at([dns, metrics, health]: [SocketAddr; 3], config: &str, prepare: Prepare<'_>) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let server_config = head(dns, metrics, health) + config;
        std::fs::write(directory.path().join("nodens.yaml"), server_config).unwrap();
        let mut command = Command::new(NODENS);
        command.args(["serve", "--config"]).arg(directory.path().join("nodens.yaml"));
        Server::run(command, directory, [dns, metrics, health], prepare)
    }

    /// Runs `command`, which will answer there; its log goes to `directory`.
    pub fn run(
        mut command: Command,
        directory: TempDir,
        [dns, metrics, health]: [SocketAddr; 3],
        prepare: Prepare<'_>,
    ) -> Server {
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        prepare(&mut command);
        let child = command.spawn().expect("nodens starts");
        Server { child, directory, dns, metrics, health }
    }

    /// A server that forwards everything to `upstream`, over TCP.
    pub fn forwarding_to(upstream: SocketAddr) -> Server {
        Server::start(&forward(upstream))
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("nodens.yaml")
    }

    /// The whole configuration of this server when the test's part of it is `config`.
    pub fn whole(&self, config: &str) -> String {
        head(self.dns, self.metrics, self.health) + config
    }

    /// Replaces what the test wrote of the configuration.
    pub fn rewrite(&self, config: &str) {
        let new = self.directory.path().join("new.yaml");
        std::fs::write(&new, self.whole(config)).unwrap();
        std::fs::rename(new, self.config_path()).unwrap();
    }

    /// Where its files are.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Its standard error, when the test has made that a pipe.
    pub fn stderr(&self) -> &ChildStderr {
        self.child.stderr.as_ref().expect("standard error is a pipe")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs").success());
    }

    /// Waits for its end.
    pub fn wait(self) -> ExitStatus {
        self.end().0
    }

    /// Waits for its end; gives the log as well.
    pub fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            assert!(Instant::now() < deadline, "it does not end; log:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// `GET /ready` says that clients may come.
    pub fn is_ready(&self) -> bool {
        self.get(self.health, "/ready").is_some_and(|r| r.contains("200 OK"))
    }

    /// Waits until it has said `part` in its log.
    pub fn until_logged(&mut self, part: &str) {
        self.until(part, |server| server.log().contains(part));
    }

    /// Waits until `holds`; panics with the log when that takes too long or the process ends before.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Server) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not in time: {what}; log:\n{}", self.log());
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} before {what}; log:\n{}", self.log());
            }
            // Polling, with no meaning for the outcome.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// A message asked over UDP.
    pub fn udp(&self, query: &Message) -> Message {
        Message::from_vec(&ask_udp(self.dns, &query.to_vec().unwrap())).expect("a readable reply")
    }

    /// A message asked over TCP.
    pub fn tcp(&self, query: &Message) -> Message {
        Message::from_vec(&ask_tcp(self.dns, &query.to_vec().unwrap())).expect("a readable reply")
    }

    /// `GET path` at `address`: head and body, or `None` when nobody answers.
    pub fn get(&self, address: SocketAddr, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The sum of all series of the metric `name` whose labels contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.get(self.metrics, "/metrics").unwrap_or_default();
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = page.lines().filter(of_name).filter(|line| line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part of the configuration that says where.
fn head(dns: SocketAddr, metrics: SocketAddr, health: SocketAddr) -> String {
    format!(
        "listen: {{ addresses: [{}], port: {} }}\nmetrics: {{ listen: [\"{metrics}\"] }}\nhealth: {{ listen: \"{health}\" }}\n",
        dns.ip(),
        dns.port()
    )
}

/// Zones that forward everything to `upstream`, over TCP.
pub fn forward(upstream: SocketAddr) -> String {
    forward_to(&[upstream], "")
}

/// Zones that forward everything to one of `upstreams`, with the other keys of `forward` as they are in `options`.
pub fn forward_to(upstreams: &[SocketAddr], options: &str) -> String {
    let to: Vec<String> = upstreams.iter().map(|upstream| format!("\"{upstream}\"")).collect();
    let rest = if options.is_empty() { String::new() } else { format!(", {options}") };
    format!("zones: [{{ match: [.], forward: {{ to: [{}]{rest} }} }}]\n", to.join(", "))
}
