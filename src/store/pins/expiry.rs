//! Removes pins whose time is over.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::store::pins::directory;
use crate::store::state::Store;
use crate::store::state_files::now;

/// Upper bound of a pause: the system's clock may be set.
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Pause after an error.
const ERROR_PAUSE: Duration = Duration::from_secs(60);

impl Store {
    /// Removes pins when their time is over, and at the start what an interrupted change has left. Returns only without a
    /// state directory.
    pub(crate) async fn expire_pins(&self) {
        let Some(pins) = &self.pins else { return };
        loop {
            let pause = match pins.access(|pins| expire(pins, now())).await {
                // No pin expires: until one is added there is nothing to do.
                Ok(None) => {
                    pins.changed.notified().await;
                    continue;
                }
                Ok(Some(next)) => Duration::from_secs(next.saturating_sub(now()).max(1)).min(MAX_PAUSE),
                Err(error) => {
                    tracing::error!("{error}");
                    sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            // A pin that expires sooner may be added meanwhile.
            let _ = timeout(pause, pins.changed.notified()).await;
        }
    }
}

/// Removes generations whose time is over. Returns the time when the next one is.
fn expire(pins: &Path, now: u64) -> io::Result<Option<u64>> {
    let mut next: Option<u64> = None;
    for name in directory::names(pins)? {
        let directory = pins.join(name.as_str());
        for generation in directory::pin(pins, &name)?.generations {
            match generation.until {
                Some(until) if until <= now => {
                    directory::remove(&directory, generation.number)?;
                    tracing::info!("removed generation {} of pin {name}: its time is over", generation.number);
                }
                Some(until) => next = Some(next.map_or(until, |next| next.min(until))),
                None => {}
            }
        }
        directory::sweep(&directory)?;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use harmonia_protocol::{StoreDir, StorePath};

    use super::*;
    use crate::store::pins::pin::Generation;

    #[test]
    fn a_generation_ends_at_its_time_and_the_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let name = "web".parse().unwrap();
        let directory = directory::create(dir.path(), &name).unwrap();
        for (number, until) in [(1, None), (2, Some(100)), (3, Some(200))] {
            let path = StorePath::from_base_name(&format!("{number:032}-a")).unwrap();
            let paths = vec![path.base_name().to_owned()];
            directory::link(&directory, number, &[path], &StoreDir::default()).unwrap();
            let generation = Generation { number, paths, by: String::new(), since: 0, until };
            directory::finish(&directory, &generation).unwrap();
        }
        let numbers = || -> Vec<u32> {
            directory::pin(dir.path(), &name).unwrap().generations.iter().map(|it| it.number).collect()
        };
        for (now, next, left) in
            [(99, Some(100), &[3, 2, 1][..]), (100, Some(200), &[3, 1]), (199, Some(200), &[3, 1]), (500, None, &[1])]
        {
            assert_eq!(expire(dir.path(), now).unwrap(), next);
            assert_eq!(numbers(), left);
        }
    }
}
