//! Rechecks of quarantined paths.

use std::time::Duration;

use crate::fairness::ClientId;
use crate::store::daemon::deadline::Deadline;
use crate::store::error::StoreError;
use crate::store::nar::expected::Claim;
use crate::store::nar::quarantine::{LAST_PAUSE, Verdict};
use crate::store::path_info::path_stamp::Sighting;
use crate::store::state::Store;
use tokio::time::{Instant, sleep_until};

/// With nothing to look at, any time will do.
const FAR: Duration = Duration::from_secs(86_400);

impl Store {
    /// Looks again at paths that are held back, one after the other, whenever it is time, without an end.
    pub async fn recheck_quarantined(&self) {
        let held_back = &self.held_back;
        // A watch that panicked has left it.
        *held_back.looked_at() = None;
        loop {
            let next = held_back.next();
            let due = next.as_ref().map_or_else(|| Instant::now() + FAR, |(due, _)| *due);
            tokio::select! {
                () = sleep_until(due) => {}
                () = held_back.changed.notified() => continue,
            }
            if let Some((_, claim)) = next {
                let seen = Sighting::of(&held_back.real_directory, &claim.path);
                *held_back.looked_at() = Some(claim.clone());
                let verdict = look(self, &claim).await;
                *held_back.looked_at() = None;
                if held_back.judge(&claim, seen, &verdict) {
                    self.nars.distrust_files(&claim);
                }
            }
        }
    }
}

/// Asks the daemon what it says of a path now, and reads the whole NAR, unless that takes longer than the others may wait.
async fn look(store: &Store, claim: &Claim) -> Verdict {
    let read = tokio::time::timeout(LAST_PAUSE, read(store, claim)).await;
    match read.unwrap_or(Err(StoreError::Timeout(Deadline::NarBytes))) {
        Ok(verdict) => verdict,
        Err(why) if why.is_mismatch() => Verdict::Wrong(why),
        Err(why) => Verdict::Unknown(why),
    }
}

async fn read(store: &Store, claim: &Claim) -> Result<Verdict, StoreError> {
    let valid = store.infos.ask(claim.path.hash_part(), None, ClientId::Server).await?;
    let Some(valid) = valid.filter(|valid| Claim::of(valid) == *claim) else { return Ok(Verdict::Void) };
    let mut nar = store.nar_for_keeping(&valid, ClientId::Server).await?;
    while nar.chunk().await?.is_some() {}
    Ok(Verdict::Good)
}
