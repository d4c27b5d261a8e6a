//! The threads that encode: no more than are configured, and of lower priority than what else runs on the machine, which
//! may be builds.
//!
//! They are apart from the runtime's threads, whose priority is that of answers. Each is started when there is work that
//! it could do, and stays. A thread stays with what it has begun for some turns: the tables of an encoder fill the
//! processor's cache, and each change fills it anew.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rustix::process::{getpriority_process, setpriority_process};

use super::locked;
use crate::config::Encoders;

/// Turns that work gets at a time, if others wait.
const TURNS: usize = 16;

/// Work that comes in turns: each call is one, and says whether there is another.
type Job = Box<dyn FnMut() -> bool + Send>;

/// The threads, which end when this is dropped and all is done.
#[derive(Debug)]
pub(super) struct EncoderThreads {
    settings: Encoders,
    queue: Arc<Queue>,
    started: Mutex<usize>,
}

/// Jobs that wait for a thread.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl EncoderThreads {
    /// None is started yet.
    pub(super) fn new(settings: Encoders) -> Self {
        Self { settings, queue: Arc::default(), started: Mutex::new(0) }
    }

    /// Does `work` when a thread is free, again as long as it says so, and by turns with other work. It is dropped
    /// when it panics.
    pub(super) fn run(&self, work: impl FnMut() -> bool + Send + 'static) -> io::Result<()> {
        self.start_one_more()?;
        self.queue.push(Box::new(work));
        Ok(())
    }

    /// Unless there are enough. It fails only if there is none.
    fn start_one_more(&self) -> io::Result<()> {
        let mut started = locked(&self.started);
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
            queue.work_off();
        });
        match spawned {
            Ok(_) => *started += 1,
            Err(cause) if is_first => return Err(cause),
            Err(_) => {}
        }
        Ok(())
    }
}

impl Drop for EncoderThreads {
    fn drop(&mut self) {
        locked(&self.queue.state).is_closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn push(&self, job: Job) {
        locked(&self.state).jobs.push_back(job);
        self.changed.notify_one();
    }

    /// The next job, when there is one; none any more after the end.
    fn pop(&self) -> Option<Job> {
        let idle = |state: &mut State| state.jobs.is_empty() && !state.is_closed;
        let waited = self.changed.wait_while(locked(&self.state), idle);
        waited.unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }

    fn work_off(&self) {
        while let Some(mut job) = self.pop() {
            // Whoever waits for one that panics is told by the end of what it had.
            let mut turn = || catch_unwind(AssertUnwindSafe(&mut job)).unwrap_or(false);
            if (0..TURNS).all(|_| turn()) {
                self.push(job);
            }
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} jobs)", locked(&self.state).jobs.len())
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn threads(threads: usize, niceness: i32) -> EncoderThreads {
        EncoderThreads::new(Encoders { threads, niceness })
    }

    /// What comes of work of one turn; nothing if it panics.
    fn run<T: Send + 'static>(threads: &EncoderThreads, work: impl Fn() -> T + Send + 'static) -> Receiver<T> {
        let (sender, receiver) = channel();
        let turn = move || {
            sender.send(work()).unwrap();
            false
        };
        threads.run(turn).unwrap();
        receiver
    }

    #[test]
    fn work_is_done_at_the_priority_that_is_asked_for() {
        let before = getpriority_process(None).unwrap();
        let niceness = before + 3;
        let of_encoder = |niceness| run(&threads(1, niceness), || getpriority_process(None)).recv().unwrap().unwrap();
        assert_eq!((of_encoder(niceness), getpriority_process(None).unwrap()), (niceness, before));
        assert_eq!(of_encoder(before), before);
    }

    #[test]
    fn no_more_threads_than_allowed_work_at_a_time() {
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
        let done: Vec<_> = (0..5).map(|_| run(&threads, work())).collect();
        let (one, other) = (begins.recv().unwrap(), begins.recv().unwrap());
        assert!(one != other && begins.try_recv().is_err());
        for _ in 0..5 {
            release.send(()).unwrap();
        }
        for done in done {
            done.recv().unwrap();
        }
        assert!(begins.try_iter().all(|id| id == one || id == other));
    }

    #[test]
    fn work_of_many_turns_is_done_some_turns_at_a_time() {
        let threads = threads(1, 0);
        let (done, doing) = channel();
        let job = |name: char| {
            let (done, mut left) = (done.clone(), TURNS + 1);
            move || {
                left -= 1;
                done.send(name).unwrap();
                left > 0
            }
        };
        // The only thread is held until all are queued.
        let (release, released) = channel::<()>();
        threads.run(move || released.recv().is_err()).unwrap();
        for name in ['a', 'b'] {
            threads.run(job(name)).unwrap();
        }
        release.send(()).unwrap();
        let order: String = doing.iter().take(2 * (TURNS + 1)).collect();
        assert_eq!(order, ["a".repeat(TURNS), "b".repeat(TURNS), "ab".to_owned()].concat());
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let threads = threads(1, 0);
        assert!(run(&threads, || -> () { panic!("on purpose") }).recv().is_err());
        assert_eq!(run(&threads, || 7).recv(), Ok(7));
    }
}
