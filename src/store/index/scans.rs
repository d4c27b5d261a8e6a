//! The scans so far, and what they allow to say of a key that none of them has found.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::error::StoreError;
use crate::store::index::change_time::ChangeTime;

/// How long a scan holds while the store directory does not change.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// By their number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scans {
    /// How many have begun.
    pub(crate) begun: u64,
    /// How many of them have ended.
    pub(crate) ended: u64,
    /// The last that ended.
    pub(crate) last: Option<Scan>,
}

/// A scan that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    /// When it began.
    pub(crate) began: Instant,
    /// Fails if not all of the store was seen, and otherwise says when the store directory had last been changed; not
    /// if that was only just, since it would not tell the next change from this one.
    pub(crate) result: Result<Option<ChangeTime>, StoreError>,
}

impl Scans {
    /// Whether one goes on.
    pub(crate) const fn is_running(&self) -> bool {
        self.begun != self.ended
    }

    /// What can be said of a key that is not in the index, to who asked when `begun` scans had; `None` if nothing can.
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
    async fn a_miss_is_certain_only_by_a_scan_of_all_that_there_is_now() {
        let (old, new) = (ChangeTime::at(1, 0), ChangeTime::at(2, 0));
        let began = Instant::now();
        let failed = || Err(StoreError::Abandoned(HashPart::ZERO));
        let scans = |result| Scans { begun: 3, ended: 3, last: Some(Scan { began, result }) };
        let certain = |verdict: Option<Result<_, _>>| verdict.map(|result: Result<(), StoreError>| result.is_ok());
        // Asked before the scan began: whatever has changed since.
        assert_eq!(certain(scans(Ok(Some(old))).verdict(2, new, began)), Some(true));
        assert_eq!(certain(scans(Ok(None)).verdict(2, new, began)), Some(true));
        assert_eq!(certain(scans(failed()).verdict(2, old, began)), Some(false));
        // Asked later.
        assert_eq!(certain(scans(Ok(Some(old))).verdict(3, old, began)), Some(true));
        assert_eq!(certain(scans(Ok(Some(old))).verdict(3, new, began)), None);
        assert_eq!(certain(scans(Ok(None)).verdict(3, old, began)), None);
        assert_eq!(certain(scans(failed()).verdict(3, old, began)), None);
        assert_eq!(certain(scans(Ok(Some(old))).verdict(3, old, began + MAX_AGE)), None);
        assert_eq!(certain(Scans::default().verdict(0, old, began)), None);
    }
}
