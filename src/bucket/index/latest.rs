//! The last segments that hosts have written, in one small object, so that a host learns of new ones without listing all of
//! them: a GET costs a tenth of a LIST, and is never out of date where listings lag.
//!
//! A line for each series of segments, the newest first. Whoever has written a segment reads the object, and puts it with that
//! segment. A line is lost if two do so at once: its host writes it again, and listings have the segment in any case.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::bucket::engine::{BucketError, BucketStore, Patience, Replace};
use crate::bucket::object_name::{ObjectName, SegmentId};
use crate::config::HostName;

/// Upper bound of the object's size, in bytes.
pub(in crate::bucket) const MAX_LATEST: usize = 64 << 10;
/// Upper bound of the series: all hosts of a fleet that write within a few seconds.
const MAX_SERIES: usize = 64;

/// The last segment of each series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::bucket) struct Latest(Vec<(HostName, SegmentId)>);

impl Latest {
    /// Gets the object; an empty one if there is none.
    pub(in crate::bucket) async fn get(store: &BucketStore) -> Result<Self, BucketError> {
        let bytes = store.get(&ObjectName::Latest, MAX_LATEST, Patience::Background).await?;
        Ok(bytes.map(|bytes| Self::parse(&bytes)).unwrap_or_default())
    }

    /// Tells all hosts of a segment.
    pub(in crate::bucket) async fn announce(
        store: &BucketStore,
        host: &HostName,
        segment: SegmentId,
    ) -> Result<(), BucketError> {
        let mut latest = Self::get(store).await?;
        latest.add(host, segment);
        store.put(&ObjectName::Latest, Bytes::from(latest.render()), Replace::Always).await.map(drop)
    }

    /// Parses the object. Lines that are none of this release are left out.
    pub(in crate::bucket) fn parse(bytes: &[u8]) -> Self {
        let parse = |line: &[u8]| {
            let (host, segment) = std::str::from_utf8(line).ok()?.split_once('/')?;
            Some((host.parse().ok()?, SegmentId::parse(segment)?))
        };
        Self(bytes.split(|byte| *byte == b'\n').filter_map(parse).take(MAX_SERIES).collect())
    }

    /// Renders the object.
    pub(in crate::bucket) fn render(&self) -> String {
        let mut text = String::new();
        for (host, segment) in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{host}/{segment}");
        }
        text
    }

    /// Adds a segment as the newest, in place of the last one of its series.
    fn add(&mut self, host: &HostName, segment: SegmentId) {
        self.0.retain(|(of, last)| of != host || last.epoch != segment.epoch);
        self.0.insert(0, (host.clone(), segment));
        self.0.truncate(MAX_SERIES);
    }

    /// Returns the segments.
    pub(super) fn segments(&self) -> impl Iterator<Item = &(HostName, SegmentId)> {
        self.0.iter()
    }

    /// Returns whether it has this segment or a later one of its series.
    pub(in crate::bucket) fn has(&self, host: &HostName, segment: SegmentId) -> bool {
        let mut series = self.0.iter().filter(|(of, last)| of == host && last.epoch == segment.epoch);
        series.any(|(_, last)| last.sequence >= segment.sequence)
    }

    /// Returns whether a series is missing that was there before: a line is lost, or the bucket was emptied.
    pub(super) fn has_lost(&self, before: &Self) -> bool {
        let is_lost = |(host, last): &(HostName, SegmentId)| !self.has(host, SegmentId { sequence: 0, ..*last });
        self.0.len() < MAX_SERIES && before.0.iter().any(is_lost)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn latest(text: &str) -> Latest {
        Latest::parse(text.as_bytes())
    }

    #[test]
    fn the_last_segment_of_each_series_is_the_first_line() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut latest = Latest::default();
        for (host, epoch, sequence) in [(&a, 1, 0), (&b, 1, 7), (&a, 2, 0), (&a, 1, 1)] {
            latest.add(host, SegmentId { epoch, sequence });
        }
        let text = "a/0000000000001-00000001\na/0000000000002-00000000\nb/0000000000001-00000007\n";
        assert_eq!(latest.render(), text);
        assert_eq!(Latest::parse(text.as_bytes()), latest);
        assert!(latest.has(&b, SegmentId { epoch: 1, sequence: 6 }));
        assert!(!latest.has(&b, SegmentId { epoch: 1, sequence: 8 }));
        assert!(!latest.has(&b, SegmentId { epoch: 2, sequence: 0 }));
        for epoch in 0..100 {
            latest.add(&b, SegmentId { epoch, sequence: 0 });
        }
        assert_eq!(latest.0.len(), MAX_SERIES);
    }

    #[test]
    fn a_series_that_goes_is_noticed() {
        let before = latest("a/0000000000001-00000001\nb/0000000000001-00000007\n");
        assert!(!latest("b/0000000000001-00000009\na/0000000000001-00000000\n").has_lost(&before));
        assert!(latest("b/0000000000001-00000009\n").has_lost(&before));
        assert!(Latest::default().has_lost(&before));
        assert!(!before.has_lost(&Latest::default()));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written(bytes: Vec<u8>) {
            let latest = Latest::parse(&bytes);
            prop_assert_eq!(Latest::parse(latest.render().as_bytes()), latest);
        }
    }
}
