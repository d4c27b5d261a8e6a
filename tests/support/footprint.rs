//! File descriptors and memory of a process as the kernel counts them, and a check that a flood of requests leaks neither.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

/// Upper bound of the wait until the server notices that clients disconnected, generous because the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Descriptors that a server may keep open: its connections to nix-daemon.
const SPARE: usize = 10;
/// Growth of memory that is no leak, in bytes: the allocator keeps freed memory.
const SLACK: u64 = 24 << 20;

/// Runs the flood once to allocate what stays, then three times more, and checks that nothing grows.
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

/// Returns the targets of a process's descriptors. Only root sees those of a process whose core dumps are disabled:
/// other users get an empty list and compare memory alone.
pub(crate) fn descriptors(pid: u32) -> Vec<PathBuf> {
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(cause) if cause.kind() == ErrorKind::PermissionDenied && !geteuid().is_root() => return Vec::new(),
        entries => entries.unwrap(),
    };
    // A descriptor may be closed meanwhile.
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
        // No event tells that a descriptor was closed.
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
