//! Number and size of the objects in a bucket, by kind.

use serde::Serialize;

use super::engine::{BucketError, BucketStore};
use super::object_name::ObjectName;

/// Number of some objects, and their size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Amount {
    /// Number.
    pub(crate) objects: u64,
    /// Size of all together, in bytes.
    pub(crate) bytes: u64,
}

/// Objects of a bucket. Those with names of others are not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Census {
    narinfos: Amount,
    nars: Amount,
    listings: Amount,
    build_logs: Amount,
    debug_info: Amount,
    index_segments: Amount,
    pins: Amount,
    other: Amount,
}

impl Census {
    /// Lists the bucket: a request for each thousand objects.
    pub(crate) async fn count(store: &BucketStore) -> Result<Self, BucketError> {
        let mut census = Self::default();
        store.walk("", |name, info| census.add(&name, info.size)).await?;
        Ok(census)
    }

    /// Returns the kinds by their names.
    pub(crate) fn kinds(&self) -> [(&'static str, &Amount); 8] {
        [
            ("narinfos", &self.narinfos),
            ("NARs", &self.nars),
            ("listings", &self.listings),
            ("build logs", &self.build_logs),
            ("debug info", &self.debug_info),
            ("index segments", &self.index_segments),
            ("pins", &self.pins),
            ("other", &self.other),
        ]
    }

    fn add(&mut self, name: &ObjectName, bytes: u64) {
        let amount = match name {
            ObjectName::NarInfo(_) => &mut self.narinfos,
            ObjectName::Nar(_) => &mut self.nars,
            ObjectName::Listing(_) => &mut self.listings,
            ObjectName::Log(_) => &mut self.build_logs,
            ObjectName::DebugInfo(_) => &mut self.debug_info,
            ObjectName::Segment(..) => &mut self.index_segments,
            ObjectName::Pin(_) => &mut self.pins,
            _ => &mut self.other,
        };
        amount.objects += 1;
        amount.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::engine::Replace;
    use crate::bucket::narinfo::tests::path;

    #[tokio::test]
    async fn each_object_is_counted_once_with_its_kind() {
        let store = BucketStore::in_memory(&Arc::new(InMemory::new()), 100);
        let names =
            [ObjectName::NarInfo(path(1).hash_part()), ObjectName::NarInfo(path(2).hash_part()), ObjectName::CacheInfo];
        for name in &names {
            store.put(name, Bytes::from_static(b"0123456789"), Replace::Always).await.unwrap();
        }
        let census = Census::count(&store).await.unwrap();
        assert_eq!(census.narinfos, Amount { objects: 2, bytes: 20 });
        assert_eq!(census.other, Amount { objects: 1, bytes: 10 });
        assert_eq!(census.kinds().iter().map(|(_, amount)| amount.objects).sum::<u64>(), 3);
    }
}
