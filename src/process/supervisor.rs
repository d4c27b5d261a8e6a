//! Runs the tasks that live as long as the program, and begins them again when they panic.
//!
//! Owns that none of them ends silently: a panic is an error in the log, and after a pause the task begins anew. Leaves
//! to each task that what it shares with others is whole at that moment, and to `log` the panic's own words.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The pause before a task begins anew; doubled each time up to the last, and the first again after the task has run for
/// longer than that.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Spawns what `begin` makes, again whenever it panics. It is over when it returns. `name` is for the log.
///
/// Must be called in a runtime, whose end cuts the task off.
pub fn supervise<F>(name: &'static str, mut begin: impl FnMut() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            let start = Instant::now();
            match tokio::spawn(begin()).await {
                Err(error) if error.is_panic() => {}
                // It has returned, or the runtime ends.
                _ => return,
            }
            if start.elapsed() > LAST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tracing::error!("the task \"{name}\" has panicked, and begins anew in {pause:?}");
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_anew_after_pauses_that_grow_up_to_a_bound() {
        let (began, mut begins) = mpsc::unbounded_channel();
        supervise("test", move || {
            let began = began.clone();
            async move {
                began.send(Instant::now()).unwrap();
                panic!("on purpose");
            }
        });
        let mut last = begins.recv().await.unwrap();
        let mut expected = FIRST_PAUSE;
        for _ in 0..12 {
            let now = begins.recv().await.unwrap();
            assert_eq!((now - last).as_secs(), expected.as_secs());
            (last, expected) = (now, (expected * 2).min(LAST_PAUSE));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_is_short_again_after_a_long_run() {
        let (began, mut begins) = mpsc::unbounded_channel();
        supervise("test", move || {
            let began = began.clone();
            async move {
                began.send(Instant::now()).unwrap();
                sleep(LAST_PAUSE * 2).await;
                panic!("on purpose");
            }
        });
        let mut last = begins.recv().await.unwrap();
        for _ in 0..5 {
            let now = begins.recv().await.unwrap();
            assert_eq!((now - last).as_secs(), (LAST_PAUSE * 2 + FIRST_PAUSE).as_secs());
            last = now;
        }
    }

    #[tokio::test]
    async fn a_task_that_returns_is_over() {
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
