//! `nix-cache-info` of the bucket: put by the host that publishes first, and read by every client before anything else.

use bytes::Bytes;

use super::obstacle::Interruption;
use crate::bucket::engine::{Patience, Replace};
use crate::bucket::object_name::ObjectName;
use crate::bucket::state::Bucket;

/// Upper bound of its size, in bytes.
const MAX_INFO: usize = 16 << 10;

impl Bucket {
    /// Checks that the bucket is of our store directory, and makes it so if it is of none. Looks now and then.
    pub(super) async fn check_cache_info(&self) -> Result<(), Interruption> {
        if self.publishing.has_cache_info() {
            return Ok(());
        }
        let name = ObjectName::CacheInfo;
        if let Some(info) = self.store.get(&name, MAX_INFO, Patience::Background).await? {
            let text = String::from_utf8_lossy(&info);
            let theirs = text.lines().find_map(|line| line.strip_prefix("StoreDir:")).map_or("", str::trim);
            if theirs != self.directory.as_str() {
                return Err(Interruption::OtherStore { theirs: theirs.into(), ours: self.directory.clone() });
            }
        } else {
            let info = format!("StoreDir: {}\nWantMassQuery: 1\nPriority: {}\n", self.directory, self.priority);
            self.store.put(&name, Bytes::from(info), Replace::IfAbsent).await?;
        }
        self.publishing.set_cache_info();
        Ok(())
    }
}
