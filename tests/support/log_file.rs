//! Files that the program writes a line at a time: the access log and the audit log.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Upper bound of a wait: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until the file has this many lines.
pub(crate) fn lines(file: &Path, count: usize) -> Vec<String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<_> = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
        if lines.len() >= count {
            assert_eq!(lines.len(), count, "{text}");
            return lines.into_iter().map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "{} of {count} lines:\n{text}", lines.len());
        thread::yield_now();
    }
}

/// Waits until the file has this many lines, each a JSON object.
pub(crate) fn events(file: &Path, count: usize) -> Vec<Value> {
    lines(file, count).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}
