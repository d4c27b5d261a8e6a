//! Descriptors and memory of a process as the kernel counts them, and the check that a flood leaks neither.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

/// Far more than a server needs to notice that clients have gone; it is for a machine that is busy.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Descriptors that a server may come to have for good: its connections to the daemon.
const SPARE: usize = 10;
/// What memory may differ by for other reasons than a leak, in bytes: what the allocator keeps.
const SLACK: u64 = 24 << 20;

/// Does it once, since what is needed for the first time may stay, and three times more.
pub(crate) fn leaves_nothing(pid: u32, flood: impl Fn()) {
    let at_most = descriptors(pid).len() + SPARE;
    flood();
    await_descriptors(pid, at_most, |_| true);
    let before = memory(pid);
    for _ in 0..3 {
        flood();
    }
    await_descriptors(pid, at_most, |_| true);
    let after = memory(pid);
    assert!(after <= before + SLACK, "memory went from {before} to {after}");
}

/// What the descriptors of a process are open to. A process whose memory is not to be dumped shows them to root alone:
/// for others there are none, and only memory is compared.
pub(crate) fn descriptors(pid: u32) -> Vec<PathBuf> {
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(cause) if cause.kind() == ErrorKind::PermissionDenied && !geteuid().is_root() => return Vec::new(),
        entries => entries.unwrap(),
    };
    // One may be closed at any time.
    entries.map_while(Result::ok).filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// Waits until a process has at most this many descriptors of a kind.
pub(crate) fn await_descriptors(pid: u32, at_most: usize, kind: impl Fn(&Path) -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let mut descriptors = descriptors(pid);
        descriptors.retain(|descriptor| kind(descriptor));
        if descriptors.len() <= at_most {
            return;
        }
        assert!(Instant::now() < deadline, "more than {at_most} descriptors: {descriptors:?}");
        // There is no event for a closed descriptor.
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the anonymous memory of a process, in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    status(pid, "RssAnon:")
}

/// Returns the peak resident memory of a process, in bytes.
pub(crate) fn most_memory(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}
