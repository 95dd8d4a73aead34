//! A memory cgroup in which something runs out of memory: version 1 or 2, whichever the machine has.

use super::namespace::Namespace;
use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup with a limit; removed when dropped, once nobody is in it.
pub struct Cgroup(PathBuf, u64);

impl Cgroup {
    /// One that allows `mib` MiB.
    ///
    /// # Errors
    /// Why there is none.
    pub fn new(mib: u64) -> Result<Cgroup, String> {
        let (root, limit) = memory_controller().ok_or("no memory controller is mounted")?;
        let path = root.join(format!("nodens-test-{}-{}", std::process::id(), rand::random::<u32>()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let group = Cgroup(path, mib);
        let octets = (mib << 20).to_string();
        fs::write(group.0.join(limit), octets).map_err(|error| format!("{limit}: {error}"))?;
        Ok(group)
    }

    /// Moves a process into it, as the first that is to die when memory runs out. What it takes from now on counts.
    pub fn add(&self, pid: u32) {
        fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").expect("anybody may be made a better victim");
        fs::write(self.procs(), pid.to_string()).expect("a process moves into a cgroup");
    }

    /// Uses up all of it, with files in memory so that nobody's death sets it free: those who were added die, and at
    /// last whoever writes the files.
    pub fn exhaust(&self, node: &Namespace) {
        let procs = self.procs();
        let write =
            format!("echo $$ >{} && exec dd if=/dev/zero of=/run/held bs=1M count={}", procs.display(), 2 * self.1);
        let output = node.command("sh").args(["-c", &write]).output().expect("nsenter runs");
        node.sh("rm /run/held");
        assert!(!output.status.success(), "memory did not run out");
    }

    fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        super::within(std::time::Duration::from_secs(2), || fs::remove_dir(&self.0).is_ok());
    }
}

/// Where memory is controlled, and the file of the limit there.
fn memory_controller() -> Option<(PathBuf, &'static str)> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let v1 = mounts.iter().find(|m| m[2] == "cgroup" && m[3].split(',').any(|option| option == "memory"));
    if let Some(mount) = v1 {
        return Some((PathBuf::from(mount[1]), "memory.limit_in_bytes"));
    }
    let v2 = mounts.iter().find(|m| m[2] == "cgroup2")?;
    let root = Path::new(v2[1]);
    // Without the controller in the root's children, a group there has no limit.
    let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
    let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).ok()?;
    enabled.split_whitespace().any(|name| name == "memory").then(|| (root.to_owned(), "memory.max"))
}
