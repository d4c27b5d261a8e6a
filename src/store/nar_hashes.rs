//! Which path has the NAR of a hash, for URLs that name it so.
//!
//! The daemon tells the hash of a path and not the path of a hash, so it is asked about all of them, for an index of valid
//! paths ([`super::path_index`]): many at once on a connection that clients leave free, given back in between.

use std::time::Duration;

use harmonia_protocol::error::Step;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::operation::{Operation as _, QueryPathInfo};
use harmonia_protocol::{ClientError, StorePath};

use super::path_index::{Key, Keys};
use super::{Store, StoreError, ValidPath};

/// Questions that go out at once: milliseconds of the daemon's time.
const BATCH: usize = 64;
/// How often, and how many times, a free connection is looked for before the scan fails.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
const BUSY_ATTEMPTS: usize = 100;

impl Key for NarHash {
    const WHAT: &'static str = "nar hashes";

    fn may_be_of(_: &StorePath) -> bool {
        true
    }

    async fn of_paths(store: &Store, paths: Vec<StorePath>) -> Result<Keys<Self>, StoreError> {
        let mut hashes = Vec::with_capacity(paths.len());
        for batch in paths.chunks(BATCH) {
            let mut client = store.pool.spare(BUSY_ATTEMPTS, BUSY_PAUSE).await?;
            let questions: Vec<_> = batch.iter().map(QueryPathInfo).collect();
            for reply in store.pool.call_all(&mut client, &questions).await? {
                let info = reply
                    .map_err(|error| ClientError::Daemon { during: Step::Operation(QueryPathInfo::OPCODE), error });
                hashes.push(info.map(|info| info.map(|info| vec![info.nar_hash])).map_err(StoreError::from));
            }
        }
        Ok(hashes)
    }

    async fn is_of(&self, _: &Store, valid: &ValidPath) -> Result<bool, StoreError> {
        Ok(valid.info.nar_hash == *self)
    }
}
