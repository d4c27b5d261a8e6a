//! A bounded number of threads, apart from the runtime's, for calls that may wait for the cache's disk.
//!
//! A stalled disk (a frozen file system, a file server that is down) blocks each thread that accesses it in the kernel,
//! indefinitely. All access runs here or on an encoder's thread, so that it queues up while requests that do not need this
//! disk are served.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::sync::Mutex;

/// Limit on concurrent calls. More would not make a disk faster.
const MAX_CALLS: usize = 16;
/// Time without a completed call after which a disk with pending calls counts as stalled.
const STALL_AFTER: Duration = Duration::from_secs(2);

/// The threads for one disk. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct DiskThreads {
    permits: Arc<Semaphore>,
    stalls: Arc<StallDetector>,
}

impl DiskThreads {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_CALLS)), stalls: Arc::default() }
    }

    /// Runs `work` on one of the threads. Fails with `TimedOut` if waiting and running take longer than `limit`. Work that has
    /// started is completed even then, and also if the future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
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
        let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer");
        tokio::time::timeout(limit, done).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Runs `work` on the current thread, which must not be one of the runtime's, and watches it like other calls.
    pub(crate) fn run_here<T>(&self, work: impl FnOnce() -> T) -> T {
        self.stalls.track(work)
    }

    /// Returns whether calls are pending and none has completed for [`STALL_AFTER`].
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalls.is_stalled()
    }

    /// Returns the semaphore that also limits reads on other threads.
    pub(crate) const fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }
}

/// Watches whether calls to a disk complete.
#[derive(Debug)]
struct StallDetector(Mutex<Calls>);

#[derive(Debug)]
struct Calls {
    pending: usize,
    /// Time at which the last call completed, or the first pending one started.
    since: Instant,
}

impl Default for StallDetector {
    fn default() -> Self {
        Self(Mutex::new(Calls { pending: 0, since: Instant::now() }))
    }
}

impl StallDetector {
    fn track<T>(&self, work: impl FnOnce() -> T) -> T {
        {
            let mut calls = self.0.lock();
            if calls.pending == 0 {
                calls.since = Instant::now();
            }
            calls.pending += 1;
        }
        // Counts the call as completed even after a panic.
        let _guard = CallGuard(self);
        work()
    }

    fn is_stalled(&self) -> bool {
        let calls = self.0.lock();
        calls.pending > 0 && calls.since.elapsed() > STALL_AFTER
    }
}

struct CallGuard<'a>(&'a StallDetector);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        let mut calls = self.0.0.lock();
        calls.pending -= 1;
        calls.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_stalled_disk_blocks_a_bounded_number_of_threads_and_further_calls_time_out() {
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
        let timed_out = threads.run(Duration::ZERO, || ()).await;
        assert_eq!(timed_out.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(release);
        for stuck in stuck {
            stuck.await.unwrap().unwrap();
        }
        assert!(threads.run(LONG, || ()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_stalled_when_no_call_completes_for_long() {
        let threads = DiskThreads::new();
        threads.run_here(|| assert!(!threads.is_stalled()));
        tokio::time::advance(2 * STALL_AFTER).await;
        assert!(!threads.is_stalled(), "no call is pending");
        assert_eq!(threads.stalls.0.lock().pending, 0);
        threads.stalls.0.lock().pending = 1;
        assert!(threads.is_stalled());
        threads.run_here(|| ());
        assert!(!threads.is_stalled(), "another call completed");
    }
}
