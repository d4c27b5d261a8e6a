//! `nix-cache-info` of the bucket: put by whoever publishes first, and read by every client before anything else.

use std::fmt;

use bytes::Bytes;
use harmonia_protocol::StoreDir;

use super::engine::{BucketError, BucketStore, Patience, Replace};
use super::object_name::ObjectName;

/// Upper bound of its size, in bytes.
pub(crate) const MAX_CACHE_INFO: usize = 64 << 10;

/// Store directory of a cache whose paths are of no use here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherStoreDir(Box<str>);

impl fmt::Display for OtherStoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks that the `nix-cache-info` of a cache is of a store directory. One that does not say so is, as for Nix.
pub(crate) fn check_cache_info(info: &[u8], directory: &StoreDir) -> Result<(), OtherStoreDir> {
    let text = String::from_utf8_lossy(info);
    let found = text.lines().find_map(|line| line.strip_prefix("StoreDir:")).map(str::trim);
    found.filter(|found| *found != directory.as_str()).map_or(Ok(()), |found| Err(OtherStoreDir(found.into())))
}

impl BucketStore {
    /// Checks that the bucket is of a store directory, and makes it so, with this priority, if it is of none.
    pub(crate) async fn claim(
        &self,
        directory: &StoreDir,
        priority: u32,
    ) -> Result<Result<(), OtherStoreDir>, BucketError> {
        let name = ObjectName::CacheInfo;
        if let Some(info) = self.get(&name, MAX_CACHE_INFO, Patience::Background).await? {
            return Ok(check_cache_info(&info, directory));
        }
        let info = format!("StoreDir: {directory}\nWantMassQuery: 1\nPriority: {priority}\n");
        self.put(&name, Bytes::from(info), Replace::IfAbsent).await.map(|_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_of_the_store_directory_that_it_says_or_of_any() {
        let ours = StoreDir::default();
        for info in ["StoreDir: /nix/store\n", "WantMassQuery: 1\nStoreDir:/nix/store \n", "", "Priority: 1\n"] {
            assert_eq!(check_cache_info(info.as_bytes(), &ours), Ok(()), "{info}");
        }
        let other = check_cache_info(b"StoreDir: /other\n", &ours).unwrap_err();
        assert_eq!(other.to_string(), "/other");
    }

    #[tokio::test]
    async fn a_bucket_of_no_store_is_claimed_and_one_of_another_is_not() {
        let store = BucketStore::in_memory(&std::sync::Arc::default(), usize::MAX);
        let (ours, other) = (StoreDir::default(), StoreDir::new("/other").unwrap());
        assert_eq!(store.claim(&ours, 7).await.unwrap(), Ok(()));
        let info = store.get(&ObjectName::CacheInfo, MAX_CACHE_INFO, Patience::Background).await.unwrap().unwrap();
        assert_eq!(info, "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 7\n");
        assert_eq!(store.claim(&ours, 30).await.unwrap(), Ok(()));
        assert_eq!(store.claim(&other, 30).await.unwrap().unwrap_err().to_string(), "/nix/store");
    }
}
