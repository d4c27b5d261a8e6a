//! Open files of entries, which are closed on a thread of their own.

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

/// Closes files, one after the other, and notes on disk that they are used. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct FileCloser(mpsc::Sender<Task>);

#[derive(Debug)]
enum Task {
    Close(File),
    MarkUsed(Arc<DiskFile>),
}

impl FileCloser {
    /// Starts the thread, which ends with the last clone.
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

/// A file that is open, and closed by a [`FileCloser`].
#[derive(Debug)]
pub(crate) struct DiskFile {
    /// Nothing only while it is dropped.
    file: Option<File>,
    closer: FileCloser,
    /// Whether a note is on its way, so that there is one at the most, and when the last one was.
    is_noted: AtomicBool,
    noted: Mutex<Instant>,
}

impl DiskFile {
    pub(crate) fn new(file: File, closer: FileCloser) -> Self {
        Self { file: Some(file), closer, is_noted: AtomicBool::new(false), noted: Mutex::new(Instant::now()) }
    }

    /// Notes now and then, by the time of the last change, that it is used. Waits for nothing.
    pub(crate) fn mark_used(self: &Arc<Self>) {
        if self.noted.lock().elapsed() > MTIME_INTERVAL && !self.is_noted.swap(true, Ordering::Relaxed) {
            // Without the thread it is not noted.
            let _ = self.closer.0.send(Task::MarkUsed(Arc::clone(self)));
        }
    }

    fn write_mtime(&self) {
        if let Some(file) = &self.file {
            // That it fails does no harm.
            let _ = file.set_modified(SystemTime::now());
        }
        *self.noted.lock() = Instant::now();
        self.is_noted.store(false, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Without the thread it is closed here.
            drop(self.closer.0.send(Task::Close(file)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn that_a_file_is_used_is_noted_now_and_then() {
        let on_disk = tempfile::NamedTempFile::new().unwrap();
        let (closer, long_ago) = (FileCloser::start().unwrap(), SystemTime::UNIX_EPOCH);
        on_disk.as_file().set_modified(long_ago).unwrap();
        let modified = || on_disk.as_file().metadata().unwrap().modified().unwrap();
        let file = Arc::new(DiskFile::new(on_disk.reopen().unwrap(), closer));
        file.mark_used();
        assert!(!file.is_noted.load(Ordering::Relaxed), "it was opened just now");
        tokio::time::advance(MTIME_INTERVAL + Duration::from_secs(1)).await;
        file.mark_used();
        while modified() == long_ago {
            thread::yield_now();
        }
    }
}
