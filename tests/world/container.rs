//! The DaemonSet's container, run by podman as its manifest says: image, arguments, environment, capabilities, read-only
//! root, seccomp, memory and mounts, in the network namespace of the node or of a pod.
//!
//! What a manifest may say of a container is listed here to the last key: one that is not known fails the test rather than
//! being left out.

use super::guardian::{children, signal};
use super::namespace::Namespace;
use super::{UPSTREAM, VIP, within};
use crate::support::process::{can_run, skip};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use yaml_serde::Value;

/// What the machines of the tests want of podman besides: its own defaults ask for more than a container there may have.
const PODMAN: [&str; 6] = ["--runtime", "runc", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];

/// A part of a manifest that is not looked at.
type Ignored = Option<Value>;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodSpec {
    containers: Vec<Spec>,
    volumes: Vec<Volume>,
    #[serde(default)]
    security_context: PodSecurity,
    #[serde(default)]
    host_network: bool,
    dns_policy: String,
    enable_service_links: bool,
    termination_grace_period_seconds: u64,
    #[serde(rename = "serviceAccountName")]
    _account: Ignored,
    #[serde(rename = "automountServiceAccountToken")]
    _token: Ignored,
    #[serde(rename = "priorityClassName")]
    _priority: Ignored,
    #[serde(rename = "nodeSelector")]
    _nodes: Ignored,
    #[serde(rename = "affinity")]
    _affinity: Ignored,
    #[serde(rename = "tolerations")]
    _tolerations: Ignored,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodSecurity {
    run_as_non_root: Option<bool>,
    run_as_user: Option<u32>,
    run_as_group: Option<u32>,
    #[serde(default)]
    sysctls: Vec<Named>,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    security_context: Security,
    resources: Resources,
    startup_probe: Probe,
    readiness_probe: Probe,
    liveness_probe: Probe,
    volume_mounts: Vec<Mount>,
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "ports")]
    _ports: Ignored,
    #[serde(rename = "imagePullPolicy")]
    _pull: Ignored,
    #[serde(rename = "terminationMessagePolicy")]
    _message: Ignored,
}

/// A variable; the only thing that any of ours takes from elsewhere are the pod's addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Variable {
    name: String,
    value_from: From,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct From {
    field_ref: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Security {
    run_as_user: Option<u32>,
    allow_privilege_escalation: bool,
    read_only_root_filesystem: bool,
    capabilities: Capabilities,
    seccomp_profile: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Capabilities {
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    add: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    limits: BTreeMap<String, String>,
    #[serde(rename = "requests")]
    _requests: Ignored,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    http_get: Get,
}

#[derive(Clone, Debug, Deserialize)]
struct Get {
    host: Option<String>,
    port: u16,
    path: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mount {
    name: String,
    mount_path: String,
    #[serde(default)]
    read_only: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Volume {
    name: String,
    config_map: Option<BTreeMap<String, String>>,
    host_path: Option<BTreeMap<String, String>>,
    empty_dir: Option<Value>,
}

/// A DaemonSet of `deploy/kustomize`, and the node's folders that it mounts.
pub struct Manifest {
    pod: PodSpec,
    /// The ConfigMap's files.
    files: BTreeMap<String, String>,
    /// Holds what stands for the node's own folders, and for volumes.
    folder: TempDir,
}

impl Manifest {
    /// The one of an overlay; says why there is none and gives `None` where it, or its image, cannot be had.
    pub fn of(overlay: &str) -> Option<Manifest> {
        if !can_run("kubectl") || !has_image() {
            return None;
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize/overlays").join(overlay);
        let output = Command::new("kubectl").arg("kustomize").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let objects = yaml_serde::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
        let objects: Vec<Value> = objects.collect();
        let of_kind = |kind: &str| objects.iter().find(|o| o["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
        Some(Manifest {
            pod: yaml_serde::from_value(of_kind("DaemonSet")["spec"]["template"]["spec"].clone()).unwrap(),
            files: yaml_serde::from_value(of_kind("ConfigMap")["data"].clone()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        })
    }

    /// Starts its container in `network`, as the kubelet would; `pod_ips` are the addresses of its pod, if it has any
    /// of its own.
    pub fn start(&self, network: &Namespace, name: &str, pod_ips: Option<&str>) -> Container {
        assert_eq!(self.pod.host_network, pod_ips.is_none(), "hostNetwork, and a network for it");
        let PodSpec { security_context: pod, enable_service_links: true, .. } = &self.pod else {
            panic!("the Services' addresses come by the environment")
        };
        assert_eq!(self.pod.dns_policy, "Default", "any other leads back to nodens");
        let [spec] = &self.pod.containers[..] else { panic!("one container") };
        let security = &spec.security_context;
        let mut command = run_in(network, name);
        assert_eq!(security.seccomp_profile["type"], "RuntimeDefault", "which is podman's own");
        command.args(security.capabilities.drop.iter().map(|one| format!("--cap-drop={one}")));
        command.args(security.capabilities.add.iter().map(|one| format!("--cap-add={one}")));
        if !security.allow_privilege_escalation {
            command.arg("--security-opt=no-new-privileges");
        }
        if security.read_only_root_filesystem {
            command.args(["--read-only", "--read-only-tmpfs=false"]);
        }
        let user = security.run_as_user.or(pod.run_as_user).unwrap_or(0);
        assert!(pod.run_as_non_root != Some(true) || user != 0);
        command.arg(format!("--user={user}:{}", pod.run_as_group.unwrap_or(0)));
        let memory = spec.resources.limits["memory"].strip_suffix("Mi").expect("a limit in Mi");
        command.arg(format!("--memory={memory}m")).arg(format!("--memory-swap={memory}m"));
        command.arg(format!("--stop-timeout={}", self.pod.termination_grace_period_seconds));
        // Of the pod, which somebody has made before.
        for Named { name, value } in &pod.sysctls {
            network.sh(&format!("echo {value} >/proc/sys/{}", name.replace('.', "/")));
        }
        self.mounts(&mut command, spec);
        let environment = [("KUBE_DNS_SERVICE_HOST", VIP[0]), ("KUBE_DNS_UPSTREAM_SERVICE_HOST", UPSTREAM[0])];
        let mut environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        for Variable { name, value_from } in &spec.env {
            assert_eq!(value_from.field_ref["fieldPath"], "status.podIPs");
            environment.push((name.clone(), pod_ips.expect("an address").to_owned()));
        }
        command.args(environment.iter().map(|(key, value)| format!("--env={key}={value}")));
        if let Some(program) = spec.command.first() {
            command.arg("--entrypoint").arg(program);
        }
        command.arg(&spec.image).args(spec.command.iter().skip(1));
        let expanded = |text: &String| {
            environment.iter().fold(text.clone(), |text, (key, value)| text.replace(&format!("$({key})"), value))
        };
        command.args(spec.args.iter().map(expanded));
        // The kubelet asks the first one.
        let pod_ip = pod_ips.and_then(|ips| ips.split(',').next());
        let probes = [&spec.startup_probe, &spec.readiness_probe, &spec.liveness_probe].map(|probe| {
            let Get { host, port, path } = &probe.http_get;
            (format!("{}:{port}", host.as_deref().or(pod_ip).expect("where to ask")), path.clone())
        });
        Container::started(command, name, probes)
    }

    /// What it mounts, from where the test keeps it.
    fn mounts(&self, command: &mut Command, spec: &Spec) {
        for mount in &spec.volume_mounts {
            let volume = self.pod.volumes.iter().find(|volume| volume.name == mount.name).expect("a volume");
            let source = match volume {
                Volume { config_map: Some(_), .. } => {
                    let folder = self.made("config");
                    self.files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
                    folder
                }
                // Devices are the node's own; all else would be left behind.
                Volume { host_path: Some(host), .. } if host["path"].starts_with("/dev/") => {
                    host["path"].clone().into()
                }
                Volume { host_path: Some(host), .. } => self.made(&format!("node{}", host["path"])),
                Volume { empty_dir: Some(_), .. } => {
                    let folder = self.made(&volume.name);
                    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
                    folder
                }
                _ => panic!("a volume of a kind that is not known here: {volume:?}"),
            };
            let options = if mount.read_only { ":ro" } else { "" };
            command.arg(format!("--volume={}:{}{options}", source.display(), mount.mount_path));
        }
        // The node's, which is what dnsPolicy Default gives.
        let resolv_conf = self.folder.path().join("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {}\n", UPSTREAM[0])).unwrap();
        command.arg(format!("--volume={}:/etc/resolv.conf:ro", resolv_conf.display()));
    }

    /// A folder below the test's own.
    fn made(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

/// The image that is tested: the one of this version, as `deploy/build-image` calls it.
pub const IMAGE: &str = concat!("nodens:", env!("CARGO_PKG_VERSION"));

/// Is there an image to be run, and somebody to run it? If not, says what is missing.
pub fn has_image() -> bool {
    if !can_run("podman") || !can_run("runc") {
        return false;
    }
    if !rustix::process::geteuid().is_root() {
        skip("needs root: containers in namespaces of the test");
        return false;
    }
    let found = podman("image exists").arg(IMAGE).status().unwrap().success();
    if !found {
        skip(&format!("needs the image {IMAGE}, which deploy/build-image makes"));
    }
    found
}

/// `podman` with these words.
pub fn podman(words: &str) -> Command {
    let mut command = Command::new("podman");
    command.args(words.split(' '));
    command
}

/// `podman run` for a container `name` in `network`, as far as all have it in common.
fn run_in(network: &Namespace, name: &str) -> Command {
    let mut command = podman(&format!("run --detach --replace --name {name} --no-hosts --dns none"));
    command.args(PODMAN).arg("--network").arg(format!("ns:/proc/{}/ns/net", network.pid()));
    command
}

/// Runs [`IMAGE`] with `options`, and with `words` behind it, in `network`.
pub fn plain(network: &Namespace, name: &str, options: &[String], words: &[&str]) -> Container {
    let mut command = run_in(network, name);
    command.args(options).arg(IMAGE).args(words);
    Container::started(command, name, Default::default())
}

/// A running container; removed when dropped.
pub struct Container {
    name: String,
    pid: u32,
    /// Where the startup, readiness and liveness probes ask, and for which path.
    probes: [(String, String); 3],
}

impl Container {
    fn started(mut command: Command, name: &str, probes: [(String, String); 3]) -> Container {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
        let mut container = Container { name: name.to_owned(), pid: 0, probes };
        container.pid = container.inspect("{{.State.Pid}}").parse().unwrap();
        container
    }

    fn inspect(&self, format: &str) -> String {
        let output = podman("inspect --format").args([format, &self.name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Its first process: the guardian, where there is one.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process that answers, where the first one is a guardian.
    pub fn server(&self) -> u32 {
        within(Duration::from_secs(10), || !children(self.pid).is_empty()).expect("a server");
        children(self.pid)[0]
    }

    /// Do all three probes succeed, asked from `network`?
    pub fn is_well(&self, network: &Namespace) -> bool {
        self.probes.iter().all(|(address, path)| network.get(address, path).contains("200 OK"))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let output = podman("logs").arg(&self.name).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Waits until `holds`; panics with the log when that takes too long.
    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        let held = within(Duration::from_secs(20), holds);
        assert!(held.is_some(), "not in time: {what}; log of {}:\n{}", self.name, self.log());
    }

    /// Ends all of it at once, as the kernel or a runtime that lost patience does.
    pub fn kill(&self) {
        signal(self.pid, "KILL");
        self.until("it is gone", || self.inspect("{{.State.Status}}") == "exited");
    }

    /// Ends it as the kubelet does; gives its exit code.
    pub fn stop(&self) -> i32 {
        assert!(podman("stop").arg(&self.name).output().unwrap().status.success());
        self.inspect("{{.State.ExitCode}}").parse().unwrap()
    }

    /// A file of its own file system, if there is one.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/root{path}", self.pid)).ok()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("log of {}:\n{}", self.name, self.log());
        }
        let _ = podman("rm --force --time 0").arg(&self.name).output();
    }
}

/// A line of `/proc/PID/status`.
pub fn status_of(pid: u32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
}
