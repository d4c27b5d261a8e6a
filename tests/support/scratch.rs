//! Temporary directory of a test run.
//!
//! It is removed when the test binary ends. Statics are not dropped and a run may be killed, so a process of its own
//! does that: it waits for the end of a pipe whose other end only the test binary holds. A death signal would not do,
//! since the kernel sends it when the *thread* that spawned ends, and each test is a thread.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::new);

struct Scratch {
    dir: PathBuf,
    next: AtomicUsize,
    /// Holds the pipe open.
    _remover: Child,
}

impl Scratch {
    fn new() -> Self {
        // Short, since daemon sockets go below it and a socket's path has 107 bytes.
        let dir = tempfile::Builder::new()
            .prefix("hm-")
            .tempdir_in(env::temp_dir())
            .expect("cannot make a temporary directory")
            .keep();
        let remover = Command::new("bash")
            .args(["-c", r#"cat >/dev/null; chmod -R u+w "$0"; rm -rf "$0""#])
            .arg(&dir)
            .stdin(Stdio::piped())
            // Who reads the output of the run must not wait for the removal.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Outside the terminal's foreground group: an interrupt must not stop it.
            .process_group(0)
            .spawn()
            .expect("cannot run bash");
        Self { dir, next: AtomicUsize::new(0), _remover: remover }
    }
}

/// Creates an empty directory with a short path, removed at the end of the run.
pub(crate) fn fresh_dir() -> PathBuf {
    let dir = SCRATCH.dir.join(SCRATCH.next.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir(&dir).unwrap();
    dir
}

/// Removes a directory before the end of the run, with read-only directories in it.
pub(crate) fn remove(dir: &Path) {
    let script = r#"chmod -R u+w "$0"; rm -rf "$0""#;
    let status = Command::new("bash").args(["-c", script]).arg(dir).status().expect("cannot run bash");
    assert!(status.success(), "cannot remove {}", dir.display());
}
