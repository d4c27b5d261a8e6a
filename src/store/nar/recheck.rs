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

/// Sleep while no path is quarantined or suspected; a new one wakes the task early.
const IDLE: Duration = Duration::from_secs(86_400);

impl Store {
    /// Rechecks quarantined and suspected paths when they are due, one at a time. Never returns.
    pub async fn recheck_quarantined(&self) {
        let quarantine = &self.quarantine;
        // Left over if this task was restarted after a panic.
        *quarantine.rechecking() = None;
        loop {
            let next = quarantine.next();
            let due = next.as_ref().map_or_else(|| Instant::now() + IDLE, |(due, _)| *due);
            tokio::select! {
                () = sleep_until(due) => {}
                () = quarantine.changed.notified() => continue,
            }
            if let Some((_, expected)) = next {
                let stamp = PathStamp::read(&quarantine.real_directory, &expected.path);
                *quarantine.rechecking() = Some(expected.clone());
                let result = recheck(self, &expected).await;
                *quarantine.rechecking() = None;
                if quarantine.record(&expected, stamp, &result) {
                    self.nar_opener.report_mismatch(&expected);
                }
            }
        }
    }
}

/// Queries the path info and verifies the whole NAR, within [`MAX_BACKOFF`] so that other paths get their turn.
async fn recheck(store: &Store, expected: &ExpectedNar) -> RecheckResult {
    let verified = tokio::time::timeout(MAX_BACKOFF, verify(store, expected)).await;
    match verified.unwrap_or(Err(StoreError::Timeout(Deadline::NarBytes))) {
        Ok(result) => result,
        Err(why) if why.is_mismatch() => RecheckResult::Mismatch(why),
        Err(why) => RecheckResult::Failed(why),
    }
}

async fn verify(store: &Store, expected: &ExpectedNar) -> Result<RecheckResult, StoreError> {
    let valid = store.path_infos.query(expected.path.hash_part(), None, ClientId::Server).await?;
    let Some(valid) = valid.filter(|valid| ExpectedNar::from_valid_path(valid) == *expected) else {
        return Ok(RecheckResult::Obsolete);
    };
    let mut nar = store.nar(&valid, NarOptions::for_cache(), ClientId::Server).await?;
    while nar.chunk().await?.is_some() {}
    Ok(RecheckResult::Verified)
}
