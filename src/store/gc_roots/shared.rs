//! State that requests and the task that sets roots share.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use harmonia_protocol::StorePath;
use tokio::sync::oneshot;

use crate::store::path_info::valid_path::ValidPath;

/// A request for a root, and who waits for it. The waiter is told whether the path is still valid, or nothing if it
/// cannot be rooted.
#[derive(Debug)]
pub(crate) struct RootRequest {
    pub(crate) valid: Arc<ValidPath>,
    pub(crate) waiting: Option<oneshot::Sender<bool>>,
}

/// State shared by requests and the rooter.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Generation in which roots are set now, from 1.
    pub(crate) current: AtomicU64,
    pub(crate) sending: Mutex<Sending>,
    /// Whether the last wait for a root timed out; nobody else waits then.
    pub(crate) is_stuck: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Sending {
    /// Number of NARs of each path that are being sent.
    pub(crate) paths: HashMap<StorePath, usize>,
    /// Generations whose roots hold. Under this lock, so that no NAR relies on one that is just ending.
    pub(crate) living: Vec<u64>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let sending = Mutex::new(Sending { paths: HashMap::new(), living: Vec::new() });
        Self { current: AtomicU64::new(1), sending, is_stuck: AtomicBool::new(false) }
    }

    pub(crate) fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    /// Starts over without roots: served paths request theirs again.
    pub(crate) fn start_over(&self) {
        self.sending().living.clear();
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock()
    }
}

/// Protects a path until it is dropped.
#[derive(Debug)]
pub(crate) struct RootGuard {
    pub(crate) shared: Arc<Shared>,
    pub(crate) path: StorePath,
}

impl Drop for RootGuard {
    fn drop(&mut self) {
        let mut sending = self.shared.sending();
        if let Some(count) = sending.paths.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                sending.paths.remove(&self.path);
            }
        }
    }
}
