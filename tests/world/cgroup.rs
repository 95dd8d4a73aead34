//! Cgroups with little memory, or little processor time: version 1 or 2, whichever the machine has.

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
        let (root, v2) = controller("memory")?;
        let limit = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
        Ok(Cgroup(made(&root, &[(limit, (mib << 20).to_string())])?, mib))
    }

    /// One that allows so many thousandths of a processor.
    ///
    /// # Errors
    /// Why there is none.
    pub fn with_quota(milli: u64) -> Result<Cgroup, String> {
        let (root, v2) = controller("cpu")?;
        let quota = (milli * 100).to_string();
        let limits = match v2 {
            true => vec![("cpu.max", format!("{quota} 100000"))],
            false => vec![("cpu.cfs_period_us", "100000".to_owned()), ("cpu.cfs_quota_us", quota)],
        };
        Ok(Cgroup(made(&root, &limits)?, 0))
    }

    /// Moves a process into it, whatever becomes of it there.
    pub fn enter(&self, pid: u32) {
        fs::write(self.procs(), pid.to_string()).expect("a process moves into a cgroup");
    }

    /// Moves a process into it, as the first that is to die when memory runs out. What it takes from now on counts.
    pub fn add(&self, pid: u32) {
        fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").expect("anybody may be made a better victim");
        self.enter(pid);
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

/// A new group below `root` with these limits.
fn made(root: &Path, limits: &[(&str, String)]) -> Result<PathBuf, String> {
    let path = root.join(format!("nodens-test-{}-{}", std::process::id(), rand::random::<u32>()));
    fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    for (name, value) in limits {
        if let Err(error) = fs::write(path.join(name), value) {
            let _ = fs::remove_dir(&path);
            return Err(format!("{name}: {error}"));
        }
    }
    Ok(path)
}

/// Where `what` is controlled, and whether by version 2.
fn controller(what: &str) -> Result<(PathBuf, bool), String> {
    let none = || format!("no controller for {what} is mounted");
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let mounts: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let v1 = mounts.iter().find(|m| m[2] == "cgroup" && m[3].split(',').any(|option| option == what));
    if let Some(mount) = v1 {
        return Ok((PathBuf::from(mount[1]), false));
    }
    let root = Path::new(mounts.iter().find(|m| m[2] == "cgroup2").ok_or_else(none)?[1]);
    // Without the controller in the root's children, a group there has no limit.
    let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{what}"));
    let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).map_err(|error| error.to_string())?;
    enabled.split_whitespace().any(|name| name == what).then(|| (root.to_owned(), true)).ok_or_else(none)
}
