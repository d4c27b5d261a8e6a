//! Reads the host files of a bucket.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::engine::{BucketError, BucketStore, Patience};
use super::host_file::{HostFile, MAX_HOST_FILE};
use super::object_name::{OWN, ObjectName};
use crate::config::HostName;

/// Upper bound of the hosts that are read.
const MAX_HOSTS: usize = 10_000;
/// Files that are read at a time.
const READS: usize = 16;

/// Returns what the hosts say about themselves, in the order of their names. Files that cannot be used are logged and left out.
pub(crate) async fn hosts(store: &BucketStore) -> Result<Vec<HostFile>, BucketError> {
    let listed = store.list(&format!("{OWN}hosts/"), None, MAX_HOSTS).await?;
    let names = listed.into_iter().filter_map(|(name, _)| match name {
        ObjectName::Host(host) => Some(host),
        _ => None,
    });
    let read = stream::iter(names).map(|host| read(store, host)).buffered(READS);
    let files: Vec<_> = read.try_collect().await?;
    Ok(files.into_iter().flatten().collect())
}

/// Reads the file of a host; `None` if it cannot be used, or is gone since it was listed.
async fn read(store: &BucketStore, host: HostName) -> Result<Option<HostFile>, BucketError> {
    let name = ObjectName::Host(host.clone());
    let Some(bytes) = store.get(&name, MAX_HOST_FILE, Patience::Background).await? else { return Ok(None) };
    let file = HostFile::parse(&bytes, &host);
    Ok(file.inspect_err(|error| tracing::warn!("{name} in the bucket cannot be used: {error}")).ok())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::engine::Replace;

    #[tokio::test]
    async fn files_that_cannot_be_used_are_left_out() {
        let store = BucketStore::in_memory(&Arc::new(InMemory::new()), 100);
        for (name, bytes) in [("b", None), ("a", None), ("c", Some("{}"))] {
            let host: HostName = name.parse().unwrap();
            let file = HostFile::new(&host, "zstd".into(), 1).render().unwrap();
            let bytes = bytes.map_or_else(|| Bytes::from(file), |text| Bytes::from_static(text.as_bytes()));
            store.put(&ObjectName::Host(host), bytes, Replace::Always).await.unwrap();
        }
        let found = hosts(&store).await.unwrap();
        assert_eq!(found.iter().map(HostFile::name).collect::<Vec<_>>(), ["a", "b"]);
    }
}
