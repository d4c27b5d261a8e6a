//! The threads that encode: no more than are configured, and of lower priority than what else runs on the machine, which
//! may be builds.
//!
//! They are apart from the runtime's threads, whose priority is that of answers. Each is started when there is work that
//! it could do, and stays.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::sync::oneshot;

use crate::config::Encoders;

type Job = Box<dyn FnOnce() + Send>;

/// The threads, which end when this is dropped and all is done.
#[derive(Debug)]
pub(super) struct EncoderThreads {
    settings: Encoders,
    jobs: Sender<Job>,
    queue: Arc<Mutex<Receiver<Job>>>,
    started: Mutex<usize>,
}

impl EncoderThreads {
    /// None is started yet.
    pub(super) fn new(settings: Encoders) -> Self {
        let (jobs, queue) = channel();
        Self { settings, jobs, queue: Arc::new(Mutex::new(queue)), started: Mutex::new(0) }
    }

    /// Does `work` when a thread is free, in the order of the calls. Nothing is received if it panics.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<oneshot::Receiver<T>> {
        self.start_one_more()?;
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Nobody may wait for it any more.
            let _ = sender.send(work());
        });
        // The other end is here.
        self.jobs.send(job).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(receiver)
    }

    /// Unless there are enough. It fails only if there is none.
    fn start_one_more(&self) -> io::Result<()> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if *started == self.settings.threads {
            return Ok(());
        }
        let (queue, niceness, is_first) = (Arc::clone(&self.queue), self.settings.niceness, *started == 0);
        let spawned = thread::Builder::new().name("encoder".to_owned()).spawn(move || {
            if let Err(cause) = lower_priority(niceness) {
                // The others fail alike.
                if is_first {
                    tracing::warn!("encoders have the priority of everything else: {cause}");
                }
            }
            work_off(&queue);
        });
        match spawned {
            Ok(_) => *started += 1,
            Err(cause) if is_first => return Err(cause),
            Err(_) => {}
        }
        Ok(())
    }
}

/// Of this thread alone: that is what Linux takes the process 0 for.
fn lower_priority(niceness: i32) -> io::Result<()> {
    let now = getpriority_process(None)?;
    if niceness > now {
        setpriority_process(None, niceness)?;
    }
    Ok(())
}

fn work_off(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever waits for it is told by the end of its sender.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(threads: usize, niceness: i32) -> EncoderThreads {
        EncoderThreads::new(Encoders { threads, niceness })
    }

    #[tokio::test]
    async fn work_is_done_at_the_priority_that_is_asked_for() {
        let before = getpriority_process(None).unwrap();
        let niceness = before + 3;
        let of_encoder = threads(1, niceness).run(|| getpriority_process(None)).unwrap().await.unwrap().unwrap();
        assert_eq!((of_encoder, getpriority_process(None).unwrap()), (niceness, before));
        let kept = threads(1, before).run(|| getpriority_process(None)).unwrap().await.unwrap().unwrap();
        assert_eq!(kept, before);
    }

    #[tokio::test]
    async fn no_more_threads_than_allowed_work_at_a_time() {
        let threads = threads(2, 0);
        let (begun, begins) = channel();
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let work = || {
            let (begun, released) = (begun.clone(), Arc::clone(&released));
            move || {
                begun.send(thread::current().id()).unwrap();
                released.lock().unwrap().recv().unwrap();
            }
        };
        let done: Vec<_> = (0..5).map(|_| threads.run(work()).unwrap()).collect();
        let (one, other) = (begins.recv().unwrap(), begins.recv().unwrap());
        assert!(one != other && begins.try_recv().is_err());
        for _ in 0..5 {
            release.send(()).unwrap();
        }
        for done in done {
            done.await.unwrap();
        }
        assert!(begins.try_iter().all(|id| id == one || id == other));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_costs_no_thread() {
        let threads = threads(1, 0);
        assert!(threads.run(|| panic!("on purpose")).unwrap().await.is_err());
        assert_eq!(threads.run(|| 7).unwrap().await, Ok(7));
    }
}
