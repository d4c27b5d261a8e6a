//! Scans so far, and whether they allow a negative result.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::error::StoreError;
use crate::store::index::change_time::ChangeTime;

/// Time for which a scan holds while the store directory does not change.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// Number of scans, and the result of the last one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scans {
    /// Number of scans begun.
    pub(crate) begun: u64,
    /// Number of scans ended.
    pub(crate) ended: u64,
    /// Last scan that ended.
    pub(crate) last: Option<Scan>,
}

/// A scan that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    /// Start time.
    pub(crate) began: Instant,
    /// Change time of the store directory before the scan; `None` if that was too recent to tell the next change apart.
    /// An error if the scan is incomplete.
    pub(crate) result: Result<Option<ChangeTime>, StoreError>,
}

impl Scans {
    /// Returns whether a scan is running.
    pub(crate) const fn is_running(&self) -> bool {
        self.begun != self.ended
    }

    /// Returns the result for a key that is not in the index, looked up when `begun` scans had begun; `None` if another
    /// scan is needed.
    pub(crate) fn verdict(&self, begun: u64, changed: ChangeTime, now: Instant) -> Option<Result<(), StoreError>> {
        let last = self.last.as_ref()?;
        match &last.result {
            result if self.ended > begun => Some(result.clone().map(drop)),
            Ok(before) => (*before == Some(changed) && now < last.began + MAX_AGE).then_some(Ok(())),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harmonia_protocol::HashPart;

    #[tokio::test]
    async fn a_negative_result_needs_a_complete_and_current_scan() {
        let (old, new) = (ChangeTime::at(1, 0), ChangeTime::at(2, 0));
        let began = Instant::now();
        let failed = || Err(StoreError::Abandoned(HashPart::ZERO));
        let scans = |result| Scans { begun: 3, ended: 3, last: Some(Scan { began, result }) };
        let certain = |verdict: Option<Result<_, _>>| verdict.map(|result: Result<(), StoreError>| result.is_ok());
        // Looked up before the scan began: later changes do not matter.
        assert_eq!(certain(scans(Ok(Some(old))).verdict(2, new, began)), Some(true));
        assert_eq!(certain(scans(Ok(None)).verdict(2, new, began)), Some(true));
        assert_eq!(certain(scans(failed()).verdict(2, old, began)), Some(false));
        // Looked up later.
        assert_eq!(certain(scans(Ok(Some(old))).verdict(3, old, began)), Some(true));
        assert_eq!(certain(scans(Ok(Some(old))).verdict(3, new, began)), None);
        assert_eq!(certain(scans(Ok(None)).verdict(3, old, began)), None);
        assert_eq!(certain(scans(failed()).verdict(3, old, began)), None);
        assert_eq!(certain(scans(Ok(Some(old))).verdict(3, old, began + MAX_AGE)), None);
        assert_eq!(certain(Scans::default().verdict(0, old, began)), None);
    }
}
