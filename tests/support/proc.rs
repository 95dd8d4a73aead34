//! What /proc says of a process: memory, processor time, open files.

use std::time::Duration;

/// The most memory that a process has held so far, in octets.
pub fn peak_memory(pid: u32) -> u64 {
    status(pid, "VmHWM:") * 1024
}

/// The processor time, user and system, that a process has taken so far.
pub fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold anything; state is the third field, times the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().unwrap()).sum();
    // Linux tells user space hundredths of a second, whatever it counts itself.
    Duration::from_millis(ticks * 10)
}

/// How many descriptors a process holds.
pub fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The memory that a process holds, in octets.
pub fn memory(pid: u32) -> u64 {
    status(pid, "VmRSS:") * 1024
}

/// How many threads a process has.
pub fn threads(pid: u32) -> u64 {
    status(pid, "Threads:")
}

/// A number of /proc/PID/status.
fn status(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    value.split_whitespace().next().unwrap().parse().unwrap()
}
