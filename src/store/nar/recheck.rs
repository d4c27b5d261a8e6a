//! Rechecks of quarantined paths.

use std::time::Duration;

use crate::fairness::ClientId;
use crate::store::daemon::deadline::Deadline;
use crate::store::error::StoreError;
use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::options::NarOptions;
use crate::store::nar::quarantine::{MAX_BACKOFF, RecheckResult};
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::state::Store;
use tokio::time::{Instant, sleep_until};

/// Stands for no deadline.
const FAR: Duration = Duration::from_secs(86_400);

impl Store {
    /// Rechecks quarantined and suspected paths when they are due, one at a time, for ever.
    pub async fn recheck_quarantined(&self) {
        let quarantine = &self.quarantine;
        // Left by a task that panicked.
        *quarantine.rechecking() = None;
        loop {
            let next = quarantine.next();
            let due = next.as_ref().map_or_else(|| Instant::now() + FAR, |(due, _)| *due);
            tokio::select! {
                () = sleep_until(due) => {}
                () = quarantine.changed.notified() => continue,
            }
            if let Some((_, expected)) = next {
                let seen = PathStamp::read(&quarantine.real_directory, &expected.path);
                *quarantine.rechecking() = Some(expected.clone());
                let result = look(self, &expected).await;
                *quarantine.rechecking() = None;
                if quarantine.record(&expected, seen, &result) {
                    self.nar_opener.report_mismatch(&expected);
                }
            }
        }
    }
}

/// Queries the path info of a path and reads its whole NAR, up to a deadline for the sake of the other paths.
async fn look(store: &Store, expected: &ExpectedNar) -> RecheckResult {
    let read = tokio::time::timeout(MAX_BACKOFF, read(store, expected)).await;
    match read.unwrap_or(Err(StoreError::Timeout(Deadline::NarBytes))) {
        Ok(result) => result,
        Err(why) if why.is_mismatch() => RecheckResult::Mismatch(why),
        Err(why) => RecheckResult::Failed(why),
    }
}

async fn read(store: &Store, expected: &ExpectedNar) -> Result<RecheckResult, StoreError> {
    let valid = store.path_infos.ask(expected.path.hash_part(), None, ClientId::Server).await?;
    let Some(valid) = valid.filter(|valid| ExpectedNar::from_valid_path(valid) == *expected) else {
        return Ok(RecheckResult::Obsolete);
    };
    let mut nar = store.nar(&valid, NarOptions::for_cache(), ClientId::Server).await?;
    while nar.chunk().await?.is_some() {}
    Ok(RecheckResult::Verified)
}
