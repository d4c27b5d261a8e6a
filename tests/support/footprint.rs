//! What a process holds: descriptors and memory, as the kernel counts them; and that a flood leaves nothing of it behind.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Far more than a server needs to notice that clients have gone; it is for a machine that is busy.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Descriptors that a server may come to have for good: its connections to the daemon.
const SPARE: usize = 10;
/// What memory may differ by for other reasons than a leak, in bytes: what the allocator keeps.
const SLACK: u64 = 24 << 20;

/// Does it once, since what is needed for the first time may stay, and three times more.
pub(crate) fn leaves_nothing(pid: u32, flood: impl Fn()) {
    let at_most = descriptors(pid) + SPARE;
    flood();
    await_descriptors(pid, at_most);
    let before = memory(pid);
    for _ in 0..3 {
        flood();
    }
    await_descriptors(pid, at_most);
    let after = memory(pid);
    assert!(after <= before + SLACK, "memory went from {before} to {after}");
}

/// How many descriptors a process has.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Waits until a process has no more descriptors than this.
pub(crate) fn await_descriptors(pid: u32, at_most: usize) {
    let deadline = Instant::now() + TIMEOUT;
    while descriptors(pid) > at_most {
        assert!(Instant::now() < deadline, "{} descriptors, more than {at_most}", descriptors(pid));
        // Nobody tells when a process closes one.
        thread::sleep(Duration::from_millis(5));
    }
}

/// The memory of a process that is not in files, in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}
