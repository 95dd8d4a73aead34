//! A node whose nodens forwards to servers on other hosts, each in a namespace of its own, and what may happen between
//! them: packets that are dropped or lost now and then, links that are cut.

use super::clients::{Answered, Asking, Figures, ask_once};
use super::namespace::{Namespace, Tool};
use super::within;
use crate::support::process::{NODENS, can_run, skip};
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Where nodens answers on the node.
pub const HERE: &str = "127.0.0.1";
/// The node's end of every link.
const NODE: &str = "10.7.0.1";
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace for a node; says why there is none.
pub fn node() -> Option<Namespace> {
    for tool in ["ip", "nft", "unshare", "nsenter", "setpriv"] {
        if !can_run(tool) {
            return None;
        }
    }
    match Namespace::outer() {
        Ok(node) => {
            node.sh("ip link set lo up");
            Some(node)
        }
        Err(error) => {
            skip(&format!("needs network namespaces: {error}"));
            None
        }
    }
}

/// A host behind a link of the node, and the server that runs on it.
pub struct Peer {
    /// Where it is.
    pub namespace: Namespace,
    /// Its address.
    pub ip: String,
    link: String,
    server: Option<Tool>,
}

impl Peer {
    /// One with the address `ip`, at the end of the node's link `link`. Packets to that address go there from now on.
    pub fn join(node: &Namespace, link: &str, ip: &str) -> Peer {
        Peer::behind(node, NODE, link, ip)
    }

    /// The same behind something that has the address `gateway`.
    pub fn behind(node: &Namespace, gateway: &str, link: &str, ip: &str) -> Peer {
        let namespace = node.beside();
        let pid = namespace.pid();
        node.sh(&format!(
            "ip link add {link} type veth peer name eth0 netns {pid}
            ip link set {link} up
            ip addr add {gateway}/32 dev {link}
            ip route replace {ip}/32 dev {link} src {gateway}"
        ));
        namespace.sh(&format!(
            "ip link set lo up
            ip link set eth0 up
            ip addr add {ip}/32 dev eth0
            ip route add {gateway}/32 dev eth0
            ip route add default via {gateway}"
        ));
        Peer { namespace, ip: ip.to_owned(), link: link.to_owned(), server: None }
    }

    /// Sends what the node has for this address here.
    pub fn lead(&self, node: &Namespace) {
        node.sh(&format!("ip route replace {}/32 dev {} src {NODE}", self.ip, self.link));
    }

    /// Starts a server on port 53, with options of the tool `upstream`.
    pub fn serve(&mut self, options: &[&str]) {
        let address = format!("{}:53", self.ip);
        let mut args = vec!["upstream"];
        args.extend(options);
        args.push(&address);
        let server = self.namespace.tool(&args);
        server.wait_for("serving");
        self.server = Some(server);
    }

    /// Ends the server; gives how many queries it had.
    pub fn end(&mut self) -> u64 {
        let lines = self.server.take().expect("a server").finish();
        let counts: serde_json::Value = serde_json::from_str(lines.last().expect("counts")).unwrap();
        counts["queries"].as_u64().unwrap()
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.server = None;
    }

    /// Sends the server a signal.
    pub fn signal(&self, name: &str) {
        super::guardian::signal(self.server.as_ref().expect("a server").pid(), name);
    }

    /// Has its kernel drop what `matches`, as nft writes it, of all that arrives and leaves.
    pub fn drop_packets(&self, matches: &str) {
        self.namespace.sh(&format!(
            "nft 'table inet chaos {{
                chain input {{ type filter hook input priority 0; {matches} drop; }}
                chain output {{ type filter hook output priority 0; {matches} drop; }}
            }}'"
        ));
    }

    /// Drops everything, without a word.
    pub fn vanish(&self) {
        self.drop_packets("");
    }

    /// Ends that.
    pub fn heal(&self) {
        self.namespace.sh("nft delete table inet chaos");
    }
}

/// A node, nodens on it, and its upstreams 10.7.1.2, 10.7.2.2 and so on.
pub struct Chain {
    /// Where nodens and its clients are.
    pub node: Namespace,
    /// The upstreams.
    pub peers: Vec<Peer>,
}

impl Chain {
    /// One with `count` upstreams, on which nothing runs yet.
    pub fn new(count: usize) -> Option<Chain> {
        let node = node()?;
        let peers = (1..=count).map(|n| Peer::join(&node, &format!("up{n}"), &format!("10.7.{n}.2"))).collect();
        Some(Chain { node, peers })
    }

    /// One where all upstreams run with `options`, and nodens with `forward` beside `to` and with `rest`.
    pub fn start(count: usize, options: &[&str], forward: &str, rest: &str) -> Option<(Chain, Daemon)> {
        let mut chain = Chain::new(count)?;
        chain.peers.iter_mut().for_each(|peer| peer.serve(options));
        let daemon = Daemon::start(&chain.node, &chain.config(forward, rest));
        Some((chain, daemon))
    }

    /// A configuration that forwards to all upstreams.
    pub fn config(&self, forward: &str, rest: &str) -> String {
        let to: Vec<&str> = self.peers.iter().map(|peer| peer.ip.as_str()).collect();
        config(&to, forward, rest)
    }

    /// Twenty clients on the node: `rate` queries a second in all, over UDP.
    pub fn ask(&self, rate: u32, options: &[&str]) -> Asking {
        let rate = format!("--rate={rate}");
        let mut all = vec![rate.as_str(), "--sockets=20", "--sources", "--verify"];
        all.extend(options);
        Asking::start(&self.node, &all, &[format!("udp:{HERE}")])
    }

    /// One query.
    pub fn once(&self, name: &str) -> Answered {
        ask_once(&self.node, &format!("udp:{HERE}"), name)
    }
}

/// A configuration that forwards to the addresses `to`.
pub fn config(to: &[&str], forward: &str, rest: &str) -> String {
    let to = to.join(", ");
    let forward = if forward.is_empty() { String::new() } else { format!(", {forward}") };
    format!(
        "listen: {{ addresses: [{HERE}] }}
zones: [{{ match: [.], forward: {{ to: [{to}]{forward} }} }}]
metrics: {{ listen: [\"{HERE}:9253\"] }}
health: {{ listen: \"{HERE}:8080\" }}
log: {{ format: text }}
{rest}\n"
    )
}

/// Stops `asking`; its only target's figures.
pub fn figures(asking: Asking) -> Figures {
    let mut all = asking.finish();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// A nodens of one process, on a node of its own; killed when dropped.
pub struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    /// Starts it on `node` and waits until it is alive.
    pub fn start(node: &Namespace, config: &str) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let (path, log) = (directory.path().join("nodens.yaml"), directory.path().join("log"));
        fs::write(&path, config).unwrap();
        let mut command = node.mortal(NODENS);
        command.args(["serve", "--config"]).arg(path);
        command.stdout(Stdio::null()).stderr(fs::File::create(log).unwrap());
        let child = command.spawn().expect("nsenter runs");
        let mut daemon = Daemon { child, directory };
        daemon.until("it is alive", || node.get(&format!("{HERE}:8080"), "/health").contains("200 OK"));
        daemon
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until `holds`; panics when that takes too long or the process ends before. Says how long it took.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
        let child = &mut self.child;
        let mut ended = None;
        let took = within(PATIENCE, || {
            ended = child.try_wait().unwrap();
            ended.is_some() || holds()
        });
        assert!(ended.is_none() && took.is_some(), "{ended:?} before {what}; log:\n{}", self.log());
        took.unwrap_or_default()
    }

    /// The sum of all series of the metric `name` whose labels contain `labels`.
    pub fn metric(&self, node: &Namespace, name: &str, labels: &str) -> f64 {
        let page = node.get(&format!("{HERE}:9253"), "/metrics");
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = page.lines().filter(of_name).filter(|line| line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("log of nodens:\n{}", self.log());
        }
    }
}
