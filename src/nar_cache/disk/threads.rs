//! Threads for calls that may wait for the cache's disk: apart from those of the runtime, and few.
//!
//! A disk that stands still (a frozen file system, a server of files that is away) stops each thread that asks it for
//! something, in the kernel and for as long as it likes. So what asks it runs here, or on the thread of an encoder: what
//! stands still fills a queue, and requests that need nothing of this disk go on. Files are closed on a thread of their
//! own, since closing the last descriptor of an unlinked file writes to the disk too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::sync::Mutex;

/// Calls at one time, a thread each. More would not make a disk faster.
const MAX_CALLS: usize = 16;
/// A disk that has done nothing for this long while it was asked for something is stuck.
const STALL_AFTER: Duration = Duration::from_secs(2);

/// The threads that wait for one disk. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct DiskThreads {
    permits: Arc<Semaphore>,
    stalls: Arc<StallDetector>,
}

impl DiskThreads {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_CALLS)), stalls: Arc::default() }
    }

    /// Runs `work` when a thread is free. It is an error of the kind `TimedOut` if that takes longer than `patience`; work
    /// that has begun goes on then, as it does when the future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (permits, stalls) = (Arc::clone(&self.permits), Arc::clone(&self.stalls));
        let done = async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let call = move || {
                let _permit = permit;
                stalls.track(work)
            };
            tokio::task::spawn_blocking(call).await.map_err(io::Error::other)
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer");
        tokio::time::timeout(patience, done).await.unwrap_or_else(|_| Err(late()))
    }

    /// Runs `work` on this thread, which is none of the runtime's, and counts it as a call to the disk.
    pub(crate) fn run_here<T>(&self, work: impl FnOnce() -> T) -> T {
        self.stalls.track(work)
    }

    /// Whether the disk has been silent for some seconds, though it was asked.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalls.is_stalled()
    }

    /// Bounds reads that others do on threads of theirs.
    pub(crate) const fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }
}

/// Whether calls to a disk come back.
#[derive(Debug)]
struct StallDetector(Mutex<Calls>);

#[derive(Debug)]
struct Calls {
    under_way: usize,
    /// When the last one came back, or the first of those that are under way began.
    since: Instant,
}

impl Default for StallDetector {
    fn default() -> Self {
        Self(Mutex::new(Calls { under_way: 0, since: Instant::now() }))
    }
}

impl StallDetector {
    fn track<T>(&self, work: impl FnOnce() -> T) -> T {
        {
            let mut calls = self.0.lock();
            if calls.under_way == 0 {
                calls.since = Instant::now();
            }
            calls.under_way += 1;
        }
        // Also after a panic.
        let _guard = CallGuard(self);
        work()
    }

    fn is_stalled(&self) -> bool {
        let calls = self.0.lock();
        calls.under_way > 0 && calls.since.elapsed() > STALL_AFTER
    }
}

struct CallGuard<'a>(&'a StallDetector);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        let mut calls = self.0.0.lock();
        calls.under_way -= 1;
        calls.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

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
    async fn a_disk_is_stuck_while_nothing_comes_back_for_long() {
        let threads = DiskThreads::new();
        threads.run_here(|| assert!(!threads.is_stalled()));
        tokio::time::advance(2 * STALL_AFTER).await;
        assert!(!threads.is_stalled(), "nobody asks it");
        let (enter, leave) = (threads.stalls.0.lock().under_way, 1);
        assert_eq!((enter, leave), (0, 1));
        threads.stalls.0.lock().under_way = 1;
        assert!(threads.is_stalled());
        threads.run_here(|| ());
        assert!(!threads.is_stalled(), "another call came back");
    }
}
