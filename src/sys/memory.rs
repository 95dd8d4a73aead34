//! What the memory cgroups of this process say, of both versions.

use std::fs;
use std::path::PathBuf;

/// What is more than this is no limit: version 1 has a number where there is none.
const NO_LIMIT: u64 = 1 << 60;

/// The most memory that this process and those beside it may use, in bytes, if there is such a limit.
pub fn limit() -> Option<u64> {
    let files = files("memory.max", "memory.limit_in_bytes");
    files.into_iter().filter_map(|file| read_limit(&fs::read_to_string(file).ok()?)).min()
}

fn read_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

/// Where a file of the memory cgroup may stand, by its name in version 2 and in version 1.
pub fn files(v2: &str, v1: &str) -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/cgroup").map_or_else(|_| Vec::new(), |groups| places(&groups, v2, v1))
}

/// The same, given `/proc/self/cgroup`. A container may see its own group as the root.
fn places(groups: &str, v2: &str, v1: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", v2),
            _ if controllers.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", v1),
            _ => continue,
        };
        files.push(PathBuf::from(format!("{root}{path}/{file}")));
        files.push(PathBuf::from(format!("{root}/{file}")));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_both_versions_of_cgroups() {
        let files = |text| places(text, "two", "one").into_iter().map(|f| f.display().to_string()).collect::<Vec<_>>();
        assert_eq!(files("0::/a\n"), ["/sys/fs/cgroup/a/two", "/sys/fs/cgroup/two"]);
        let v1 = ["/sys/fs/cgroup/memory/a/one", "/sys/fs/cgroup/memory/one"];
        assert_eq!(files("4:cpu,cpuacct:/b\n3:memory:/a\n"), v1);
    }

    #[test]
    fn no_limit_is_written_in_two_ways() {
        assert_eq!(read_limit("209715200\n"), Some(200 << 20));
        assert_eq!(read_limit("max\n"), None);
        assert_eq!(read_limit("9223372036854771712\n"), None);
    }
}
