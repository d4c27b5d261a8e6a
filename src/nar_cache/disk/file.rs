//! Open files of entries, which are closed on a separate thread: closing the last descriptor of an unlinked file writes to the
//! disk, and so may wait for it.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::sync::Mutex;

/// Precision of the modification time of a file that stays open, which is the time of its last use.
const MTIME_INTERVAL: Duration = Duration::from_secs(60);

/// A thread that closes files and updates modification times, one after the other. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct FileCloser(mpsc::Sender<Task>);

#[derive(Debug)]
enum Task {
    Close(File),
    MarkUsed(Arc<DiskFile>),
}

impl FileCloser {
    /// Starts the thread, which ends when the last clone is dropped.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, tasks) = mpsc::channel::<Task>();
        let work = move || {
            for task in tasks {
                match task {
                    Task::Close(file) => drop(file),
                    Task::MarkUsed(file) => file.write_mtime(),
                }
            }
        };
        thread::Builder::new().name("nar-cache-close".to_owned()).spawn(work)?;
        Ok(Self(sender))
    }
}

/// An open file that a [`FileCloser`] closes.
#[derive(Debug)]
pub(crate) struct DiskFile {
    /// `None` only while it is dropped.
    file: Option<File>,
    closer: FileCloser,
    /// Whether an update of the modification time is queued, so that there is one at most.
    is_update_queued: AtomicBool,
    last_update: Mutex<Instant>,
}

impl DiskFile {
    pub(crate) fn new(file: File, closer: FileCloser) -> Self {
        Self {
            file: Some(file),
            closer,
            is_update_queued: AtomicBool::new(false),
            last_update: Mutex::new(Instant::now()),
        }
    }

    /// Queues an update of the modification time if the last one is older than [`MTIME_INTERVAL`]. Never blocks.
    pub(crate) fn mark_used(self: &Arc<Self>) {
        if self.last_update.lock().elapsed() > MTIME_INTERVAL && !self.is_update_queued.swap(true, Ordering::Relaxed) {
            // Without the thread the time is not updated.
            let _ = self.closer.0.send(Task::MarkUsed(Arc::clone(self)));
        }
    }

    fn write_mtime(&self) {
        if let Some(file) = &self.file {
            // A failure does no harm.
            let _ = file.set_modified(SystemTime::now());
        }
        *self.last_update.lock() = Instant::now();
        self.is_update_queued.store(false, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Without the thread the file is closed here.
            drop(self.closer.0.send(Task::Close(file)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_modification_time_of_a_used_file_is_updated_now_and_then() {
        let on_disk = tempfile::NamedTempFile::new().unwrap();
        let (closer, long_ago) = (FileCloser::start().unwrap(), SystemTime::UNIX_EPOCH);
        on_disk.as_file().set_modified(long_ago).unwrap();
        let modified = || on_disk.as_file().metadata().unwrap().modified().unwrap();
        let file = Arc::new(DiskFile::new(on_disk.reopen().unwrap(), closer));
        file.mark_used();
        assert!(!file.is_update_queued.load(Ordering::Relaxed), "it was just opened");
        tokio::time::advance(MTIME_INTERVAL + Duration::from_secs(1)).await;
        file.mark_used();
        while modified() == long_ago {
            thread::yield_now();
        }
    }
}
