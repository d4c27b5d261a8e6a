//! Runs long-running tasks, and restarts them when they panic.
//!
//! No such task ends silently: a panic is logged as an error, and the task restarts after a delay. Each task has to keep the
//! state that it shares with others consistent in case of a panic.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Delay before the first restart of a task. It doubles with each restart up to [`MAX_DELAY`], and is reset once the task has
/// run for longer than that.
const MIN_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(5 * 60);

/// Spawns the task that `begin` creates, and does so again whenever it panics, until it returns. `name` is for the log.
///
/// Must be called in a runtime. The task is cancelled when the runtime shuts down.
pub(crate) fn supervise<F>(name: &'static str, mut begin: impl FnMut() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let mut delay = MIN_DELAY;
        loop {
            let start = Instant::now();
            match tokio::spawn(begin()).await {
                Err(error) if error.is_panic() => {}
                // It has returned, or the runtime is shutting down.
                _ => return,
            }
            if start.elapsed() > MAX_DELAY {
                delay = MIN_DELAY;
            }
            tracing::error!("task \"{name}\" panicked, restarting in {delay:?}");
            sleep(delay).await;
            delay = (delay * 2).min(MAX_DELAY);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_restarts_after_growing_delays() {
        let (began, mut begins) = mpsc::unbounded_channel();
        supervise("test", move || {
            let began = began.clone();
            async move {
                began.send(Instant::now()).unwrap();
                panic!("on purpose");
            }
        });
        let mut last = begins.recv().await.unwrap();
        let mut expected = MIN_DELAY;
        for _ in 0..12 {
            let now = begins.recv().await.unwrap();
            assert_eq!((now - last).as_secs(), expected.as_secs());
            (last, expected) = (now, (expected * 2).min(MAX_DELAY));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_is_reset_after_a_long_run() {
        let (began, mut begins) = mpsc::unbounded_channel();
        supervise("test", move || {
            let began = began.clone();
            async move {
                began.send(Instant::now()).unwrap();
                sleep(MAX_DELAY * 2).await;
                panic!("on purpose");
            }
        });
        let mut last = begins.recv().await.unwrap();
        for _ in 0..5 {
            let now = begins.recv().await.unwrap();
            assert_eq!((now - last).as_secs(), (MAX_DELAY * 2 + MIN_DELAY).as_secs());
            last = now;
        }
    }

    #[tokio::test]
    async fn a_task_that_returns_is_not_restarted() {
        let (began, mut begins) = mpsc::unbounded_channel();
        supervise("test", move || {
            let began = began.clone();
            async move { began.send(()).unwrap() }
        });
        assert!(begins.recv().await.is_some());
        // Its sender is gone with the supervisor.
        assert!(begins.recv().await.is_none());
    }
}
