//! Threads for calls that may wait for the cache's disk: apart from those of the runtime, and few.
//!
//! A disk that stands still (a frozen file system, a server of files that is away) stops each thread that asks it for
//! something, in the kernel and for as long as it likes. So what asks it runs here, or on the thread of an encoder: what
//! stands still fills a queue, and requests that need nothing of this disk go on. Files are closed on a thread of their
//! own, since closing the last descriptor of an unlinked file writes to the disk too.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::sync::Mutex;

/// Calls at one time, a thread each. More would not make a disk faster.
const MAX_CALLS: usize = 16;
/// A disk that has done nothing for this long while it was asked for something is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(2);
/// Precision of the time at which a file that stays open was used last.
const NOTE_EACH: Duration = Duration::from_secs(60);

/// The threads that wait for one disk. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct DiskThreads {
    calls: Arc<Semaphore>,
    pulse: Arc<Pulse>,
}

impl DiskThreads {
    pub(super) fn new() -> Self {
        Self { calls: Arc::new(Semaphore::new(MAX_CALLS)), pulse: Arc::default() }
    }

    /// Runs `work` when a thread is free. It is an error of the kind `TimedOut` if that takes longer than `patience`; work
    /// that has begun goes on then, as it does when the future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (calls, pulse) = (Arc::clone(&self.calls), Arc::clone(&self.pulse));
        let done = async move {
            let permit = calls.acquire_owned().await.map_err(io::Error::other)?;
            let call = move || {
                let _permit = permit;
                pulse.during(work)
            };
            tokio::task::spawn_blocking(call).await.map_err(io::Error::other)
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer");
        tokio::time::timeout(patience, done).await.unwrap_or_else(|_| Err(late()))
    }

    /// Runs `work` on this thread, which is none of the runtime's, and counts it as a call to the disk.
    pub(super) fn here<T>(&self, work: impl FnOnce() -> T) -> T {
        self.pulse.during(work)
    }

    /// Whether the disk has been silent for some seconds, though it was asked.
    pub(super) fn are_stuck(&self) -> bool {
        self.pulse.is_stuck()
    }

    /// Bounds reads that others do on threads of theirs.
    pub(super) const fn calls(&self) -> &Arc<Semaphore> {
        &self.calls
    }
}

/// Whether calls to a disk come back.
#[derive(Debug)]
struct Pulse(Mutex<Calls>);

#[derive(Debug)]
struct Calls {
    under_way: usize,
    /// When the last one came back, or the first of those that are under way began.
    since: Instant,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(Calls { under_way: 0, since: Instant::now() }))
    }
}

impl Pulse {
    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        {
            let mut calls = self.0.lock();
            if calls.under_way == 0 {
                calls.since = Instant::now();
            }
            calls.under_way += 1;
        }
        // Also after a panic.
        let _back = Back(self);
        work()
    }

    fn is_stuck(&self) -> bool {
        let calls = self.0.lock();
        calls.under_way > 0 && calls.since.elapsed() > STUCK_AFTER
    }
}

struct Back<'a>(&'a Pulse);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        let mut calls = self.0.0.lock();
        calls.under_way -= 1;
        calls.since = Instant::now();
    }
}

/// Closes files, one after the other, and notes on disk that they are used. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Closer(mpsc::Sender<Chore>);

#[derive(Debug)]
enum Chore {
    Close(File),
    NoteUse(Arc<DiskFile>),
}

impl Closer {
    /// Starts the thread, which ends with the last clone.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, chores) = mpsc::channel::<Chore>();
        let work = move || {
            for chore in chores {
                match chore {
                    Chore::Close(file) => drop(file),
                    Chore::NoteUse(file) => file.write_use(),
                }
            }
        };
        thread::Builder::new().name("nar-cache-close".to_owned()).spawn(work)?;
        Ok(Self(sender))
    }
}

/// A file that is open, and closed by a [`Closer`].
#[derive(Debug)]
pub(super) struct DiskFile {
    /// Nothing only while it is dropped.
    file: Option<File>,
    closer: Closer,
    /// Whether a note is on its way, so that there is one at the most, and when the last one was.
    is_noted: AtomicBool,
    noted: Mutex<Instant>,
}

impl DiskFile {
    pub(super) fn new(file: File, closer: Closer) -> Self {
        Self { file: Some(file), closer, is_noted: AtomicBool::new(false), noted: Mutex::new(Instant::now()) }
    }

    /// Notes now and then, by the time of the last change, that it is used. Waits for nothing.
    pub(super) fn note_use(self: &Arc<Self>) {
        if self.noted.lock().elapsed() > NOTE_EACH && !self.is_noted.swap(true, Ordering::Relaxed) {
            // Without the thread it is not noted.
            let _ = self.closer.0.send(Chore::NoteUse(Arc::clone(self)));
        }
    }

    fn write_use(&self) {
        if let Some(file) = &self.file {
            // That it fails does no harm.
            let _ = file.set_modified(SystemTime::now());
        }
        *self.noted.lock() = Instant::now();
        self.is_noted.store(false, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Without the thread it is closed here.
            drop(self.closer.0.send(Chore::Close(file)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_stands_still_takes_a_bounded_number_of_threads_and_who_waits_is_told() {
        let threads = DiskThreads::new();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let (begun, begins) = mpsc::channel();
        let stuck: Vec<_> = (0..2 * MAX_CALLS)
            .map(|_| {
                let (threads, released, begun) = (threads.clone(), Arc::clone(&released), begun.clone());
                tokio::spawn(async move {
                    let wait = move || {
                        begun.send(()).unwrap();
                        // Ends when it is released, or when nobody can do that any more.
                        let _ = released.lock().recv();
                    };
                    threads.run(LONG, wait).await
                })
            })
            .collect();
        let begins = tokio::task::spawn_blocking(move || {
            (0..MAX_CALLS).for_each(|_| begins.recv().unwrap());
            begins
        });
        let begins = begins.await.unwrap();
        assert!(begins.try_recv().is_err());
        let late = threads.run(Duration::ZERO, || ()).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(release);
        for stuck in stuck {
            stuck.await.unwrap().unwrap();
        }
        assert!(threads.run(LONG, || ()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn that_a_file_is_used_is_noted_now_and_then() {
        let on_disk = tempfile::NamedTempFile::new().unwrap();
        let (closer, long_ago) = (Closer::start().unwrap(), SystemTime::UNIX_EPOCH);
        on_disk.as_file().set_modified(long_ago).unwrap();
        let modified = || on_disk.as_file().metadata().unwrap().modified().unwrap();
        let file = Arc::new(DiskFile::new(on_disk.reopen().unwrap(), closer));
        file.note_use();
        assert!(!file.is_noted.load(Ordering::Relaxed), "it was opened just now");
        tokio::time::advance(NOTE_EACH + Duration::from_secs(1)).await;
        file.note_use();
        while modified() == long_ago {
            thread::yield_now();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_stuck_while_nothing_comes_back_for_long() {
        let threads = DiskThreads::new();
        threads.here(|| assert!(!threads.are_stuck()));
        tokio::time::advance(2 * STUCK_AFTER).await;
        assert!(!threads.are_stuck(), "nobody asks it");
        let (enter, leave) = (threads.pulse.0.lock().under_way, 1);
        assert_eq!((enter, leave), (0, 1));
        threads.pulse.0.lock().under_way = 1;
        assert!(threads.are_stuck());
        threads.here(|| ());
        assert!(!threads.are_stuck(), "another call came back");
    }
}
