//! State shared by requests and the task that sets roots.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use harmonia_protocol::StorePath;
use tokio::sync::oneshot;

use crate::store::path_info::valid_path::ValidPath;

/// Request for a root. The reply tells whether the path is still valid; there is none if the root cannot be set.
#[derive(Debug)]
pub(crate) struct RootRequest {
    pub(crate) valid: Arc<ValidPath>,
    pub(crate) reply_to: Option<oneshot::Sender<bool>>,
}

/// State shared by requests and the rooter.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Generation in which roots are set now, from 1.
    pub(crate) current: AtomicU64,
    pub(crate) sending: Mutex<Sending>,
    /// Set if a wait for a root timed out: until the rooter makes progress, no NAR waits for its root.
    pub(crate) is_stuck: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Sending {
    /// Number of NARs of each path that are being sent.
    pub(crate) paths: HashMap<StorePath, usize>,
    /// Generations with a connection, whose roots hold. Under this lock, so that no NAR relies on one that is just
    /// ending.
    pub(crate) connected: Vec<u64>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let sending = Mutex::new(Sending { paths: HashMap::new(), connected: Vec::new() });
        Self { current: AtomicU64::new(1), sending, is_stuck: AtomicBool::new(false) }
    }

    pub(crate) fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    /// Starts over without roots: served paths request theirs again.
    pub(crate) fn start_over(&self) {
        self.sending().connected.clear();
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock()
    }
}

/// Guard that protects a path while its NAR is sent, until it is dropped.
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
