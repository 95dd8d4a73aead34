//! `nodens serve` with the network on, inside the node: two processes, the guardian and the server that it starts.

use super::namespace::Namespace;
use super::topology::World;
use super::{BACKENDS, LOCAL, UPSTREAM, VIP, clients, within};
use crate::support::process::NODENS;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start may take before a test gives up; debug builds on a loaded machine are slow.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a nodens is to run.
#[derive(Clone)]
pub struct Setup {
    /// Where it listens.
    pub addresses: Vec<&'static str>,
    /// `network.firewall`.
    pub firewall: &'static str,
    /// What the variable of the Service `kube-dns-upstream` says.
    pub upstream: &'static str,
    /// The program; the tests that replace it run a copy.
    pub program: PathBuf,
    /// A command that runs the program, such as `prlimit --nofile=50`.
    pub by: Vec<&'static str>,
    /// Where the cache is kept, if it is.
    pub persist: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            addresses: vec![LOCAL[0], VIP[0], LOCAL[1], VIP[1]],
            firewall: "nftables",
            upstream: UPSTREAM[0],
            program: PathBuf::from(NODENS),
            by: Vec::new(),
            persist: None,
        }
    }
}

impl Setup {
    /// The configuration file.
    fn config(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(|ip| format!("\"{ip}\"")).collect();
        let (first, firewall) = (self.addresses[0], self.firewall);
        let persist = self.persist.as_ref().map(|path| {
            // Not but when it is told to.
            format!("cache: {{ persist: {{ path: {}, interval: 1d }} }}\n", path.display())
        });
        let rest = persist.unwrap_or_default();
        format!(
            "listen: {{ addresses: [{}] }}
network: {{ firewall: {firewall} }}
zones: [{{ match: [.], forward: {{ to: [kube-dns], protocol: tcp }} }}]
metrics: {{ listen: [\"{first}:9253\"] }}
health: {{ listen: \"{first}:8080\" }}
log: {{ format: text }}\n{rest}",
            addresses.join(", ")
        )
    }

    /// What clients can ask of it.
    pub fn targets(&self) -> Vec<String> {
        clients::targets(&self.addresses)
    }

    /// Who answers the host's own processes while nodens serves. Rules of iptables cannot let go of what those ask,
    /// unless the link goes when nodens does: with one that stays they are left to kube-dns.
    pub fn host_outcome(&self, world: &World) -> &'static str {
        let links = world.node.sh("ip -d -o link show");
        let goes = links.lines().any(|link| link.contains(" nodelocaldns") && link.contains(" tun "));
        if self.firewall == "iptables" && !goes { "backend" } else { "local" }
    }

    /// Does nodens answer all that should be answered by it?
    pub fn is_served(&self, world: &World) -> bool {
        let targets = self.targets();
        clients::all_are(&world.pods[0], &targets, "local")
            && clients::all_are(&world.node, &targets, self.host_outcome(world))
    }

    /// Starts it, without waiting for anything.
    pub fn launch(&self, world: &World) -> Guardian {
        self.launch_with(world, &self.config())
    }

    /// The same with another configuration file.
    pub fn launch_with(&self, world: &World, text: &str) -> Guardian {
        let directory = tempfile::tempdir().unwrap();
        let (config, log) = (directory.path().join("nodens.yaml"), directory.path().join("log"));
        fs::write(&config, text).unwrap();
        let program = self.program.to_str().unwrap();
        let mut words = self.by.iter().copied().chain([program]);
        let mut command = world.node.mortal(words.next().unwrap());
        command.args(words).args(["serve", "--config"]).arg(config);
        command.env("KUBE_DNS_UPSTREAM_SERVICE_HOST", self.upstream);
        command.stdout(Stdio::null()).stderr(fs::File::create(log).unwrap());
        let child = command.spawn().expect("nsenter runs");
        Guardian { child, directory, setup: self.clone(), ended: None }
    }

    /// Starts it in the place of node-cache, with the arguments of the stock manifest and `flags`; `corefile` is the base,
    /// where LOCAL and VIP stand for what is listened on.
    pub fn launch_as_node_cache(&self, world: &World, corefile: &str, flags: &[&str]) -> Guardian {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("kube-dns")).unwrap();
        fs::write(at("Corefile.base"), corefile).unwrap();
        let mut command = world.node.mortal(self.program.to_str().unwrap());
        command.args(["node-cache", "-localip", &self.addresses.join(","), "-upstreamsvc", "kube-dns-upstream"]);
        command.arg("-conf").arg(at("Corefile")).arg("-pidfile").arg(at("pid"));
        command.arg("-basecorefile").arg(at("Corefile.base")).arg("-kubednscm").arg(at("kube-dns")).args(flags);
        command.env_remove("KUBE_DNS_UPSTREAM_SERVICE_HOST");
        if !self.upstream.is_empty() {
            command.env("KUBE_DNS_UPSTREAM_SERVICE_HOST", self.upstream);
        }
        let log = fs::File::create(at("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("nsenter runs");
        Guardian { child, directory, setup: self.clone(), ended: None }
    }

    /// Starts it and waits until everybody is served by it and the way to kube-dns is prepared.
    pub fn start(&self, world: &World) -> Guardian {
        let mut guardian = self.launch(world);
        guardian.until("it serves everybody", || self.is_served(world));
        guardian.until("the way to kube-dns is prepared", || is_prepared(world, &self.addresses));
        guardian
    }
}

/// Does a rule that is not kube-proxy's lead from the address on the node to kube-dns, in all families we listen on?
pub fn is_prepared(world: &World, addresses: &[&str]) -> bool {
    [0, 1].iter().all(|&family| {
        let wanted = addresses.contains(&LOCAL[family]);
        !wanted || fallback(world).contains(BACKENDS[0][family]) && fallback(world).contains(BACKENDS[1][family])
    })
}

/// The standing table, or what stands for it in iptables.
pub fn fallback(world: &World) -> String {
    world.node.sh("nft list table inet nodens-failopen 2>/dev/null || true
        { iptables-save -t nat; ip6tables-save -t nat; } | grep -i nodens || true")
}

/// A running nodens: the process that the test started is the guardian. Both are killed when this is dropped.
pub struct Guardian {
    child: Child,
    directory: TempDir,
    setup: Setup,
    ended: Option<ExitStatus>,
}

impl Guardian {
    /// The guardian's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The server's process id; `None` while there is none.
    pub fn server(&self) -> Option<u32> {
        children(self.pid()).first().copied()
    }

    /// The server's process id; waits for it.
    pub fn server_pid(&mut self) -> u32 {
        let pid = self.pid();
        self.until("there is a server", || !children(pid).is_empty());
        self.server().expect("a server")
    }

    /// Its configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("nodens.yaml")
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What both processes have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until `holds`; panics with the log when that takes too long or the guardian ends before.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}; log:\n{}", self.log());
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} before {what}; log:\n{}", self.log());
            }
            // Polling, with no meaning for the outcome.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of the guardian; panics when it does not come within `patience`.
    pub fn end(&mut self, patience: Duration) -> ExitStatus {
        let child = &mut self.child;
        let mut status = None;
        let ended = within(patience, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended.is_some(), "it does not end; log:\n{}", self.log());
        self.ended = status;
        status.unwrap()
    }

    /// The sum of all series of the metric `name` whose labels contain `labels`.
    pub fn metric(&self, node: &Namespace, name: &str, labels: &str) -> f64 {
        let page = node.get(&format!("{}:9253", self.setup.addresses[0]), "/metrics");
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = page.lines().filter(of_name).filter(|line| line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // The server as well: it may be stopped, or the guardian may have left it behind.
            children(self.pid()).into_iter().for_each(|pid| signal(pid, "KILL"));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            println!("log of nodens:\n{}", self.log());
        }
    }
}

/// Sends a signal by name; a process that is gone is not an error.
pub fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    let _ = kill.args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// The processes that `pid` has started, the oldest first.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of = |task: &Path| fs::read_to_string(task.join("children")).unwrap_or_default();
    let text: String = tasks.flatten().map(|task| of(&task.path())).collect();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The instances of nodens on the node: how many are in each stage.
pub fn stages(node: &Namespace) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for line in node.sh("cat /proc/net/unix").lines() {
        if let Some(stage) = line.split_once("@nodens/").and_then(|(_, name)| Some(name.split_once('/')?.1)) {
            *found.entry(stage.to_owned()).or_default() += 1;
        }
    }
    found
}

/// The names of live tables, those that end with their instance.
pub fn live_tables(node: &Namespace) -> Vec<String> {
    let tables = node.sh("nft list tables");
    let live = tables.lines().filter_map(|line| line.trim().strip_prefix("table inet "));
    live.filter(|name| name.starts_with("nodens-") && *name != "nodens-failopen").map(str::to_owned).collect()
}
