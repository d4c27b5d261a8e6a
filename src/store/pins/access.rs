//! Access to the directory of pins, one at a time.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::store::pins::error::PinError;

/// Name of the directory in the state directory.
const NAME: &str = "pins";

/// The directory of pins.
#[derive(Debug)]
pub(crate) struct Pins {
    pub(crate) directory: PathBuf,
    /// Held during each access.
    access: Mutex<()>,
    /// Notified when a pin may expire sooner.
    pub(crate) changed: Notify,
}

impl Pins {
    /// Creates the pins of a state directory without accessing it.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join(NAME), access: Mutex::new(()), changed: Notify::new() }
    }

    /// Runs `work`, which blocks on the disk, on another thread, while no other access runs.
    pub(crate) async fn access<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PinError> {
        let _access = self.exclusive().await;
        self.on_disk(work).await
    }

    /// Waits until no other access runs. None begins until the guard is dropped.
    pub(crate) async fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.access.lock().await
    }

    /// Runs `work`, which blocks on the disk, on another thread. For [`Self::exclusive`] access, or beside the directory.
    pub(crate) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PinError> {
        let directory = self.directory.clone();
        let done = tokio::task::spawn_blocking(move || work(&directory)).await;
        done.map_err(io::Error::other)
            .and_then(|done| done)
            .map_err(|cause| PinError::directory(&self.directory, cause))
    }
}
