//! Operators' work on a cache in use: NARs of paths of their choice are made, or removed.

use std::sync::Arc;

use harmonia_protocol::{HashPart, StorePath};
use serde::{Deserialize, Serialize};

use super::kept::{Removed, Wanted, matching};
use super::{FillError, NarCache};
use crate::fairness::ClientId;
use crate::store::{ClosureLimits, ClosureMember, Missing, Store, StoreError};

/// Paths of a closure: more than any store has, and less than half a gigabyte of memory.
const MAX_PATHS: usize = 1 << 20;

/// A reason why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum ByHandError {
    /// There is no such path.
    #[error("no valid path has the hash part {0}")]
    NotValid(HashPart),
    /// The daemon does not say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The closure is not known as a whole.
    #[error("cannot find the whole closure: {0}")]
    Closure(Missing),
    /// The NAR cannot be had, or not be kept.
    #[error("cannot have {path} compressed: {cause}")]
    Fill {
        /// The path of the NAR.
        path: String,
        /// The reason.
        cause: FillError,
    },
    /// The directory cannot be read.
    #[error("cannot look through the cache of nars: {0}")]
    Disk(std::io::Error),
}

impl ByHandError {
    /// Whether there was no word of the daemon, which passes by waiting.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        match self {
            Self::Store(error) | Self::Fill { cause: FillError::Store(error), .. } => error.is_silence(),
            _ => false,
        }
    }
}

/// The outcome for a path's NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was compressed.
    Made,
    /// It was there.
    Found,
    /// It would not fit, and is served as it is.
    Plain,
}

/// Looks up these paths, and with `recursive` all that they refer to.
pub async fn resolve(store: &Store, hashes: &[HashPart], recursive: bool) -> Result<Vec<ClosureMember>, ByHandError> {
    let mut roots = Vec::new();
    for hash in hashes {
        roots.push(store.valid_path(*hash, ClientId::Server).await?.ok_or(ByHandError::NotValid(*hash))?);
    }
    if !recursive {
        let member = |path: &StorePath, nar_size| ClosureMember { path: path.clone(), nar_size };
        return Ok(roots.iter().map(|valid| member(&valid.path, valid.info.nar_size)).collect());
    }
    let limits = ClosureLimits { paths: MAX_PATHS, time: None };
    let closure = store.closure(&roots, limits, |_| true, ClientId::Server).await;
    match closure.missing {
        None => Ok(closure.members),
        Some(Missing::Store(error)) => Err(error.into()),
        Some(Missing::NotValid(path)) => Err(ByHandError::NotValid(path.hash_part())),
        Some(missing) => Err(ByHandError::Closure(missing)),
    }
}

/// What to look for of these paths on disk: by their names those that are not valid any more, and all if the daemon does not
/// answer, unless it has to say what they refer to.
pub async fn wanted(store: &Store, hashes: &[HashPart], recursive: bool) -> Result<Wanted, ByHandError> {
    let mut wanted = Wanted::default();
    for hash in hashes {
        let members = match resolve(store, &[*hash], recursive).await {
            Ok(members) => members,
            Err(error) => {
                let is_gone = matches!(error, ByHandError::NotValid(missing) if missing == *hash);
                if is_gone || (error.is_silence() && !recursive) {
                    wanted.hash_parts.insert(*hash);
                    continue;
                }
                return Err(error);
            }
        };
        for member in members {
            match store.valid_path(member.path.hash_part(), ClientId::Server).await? {
                Some(valid) => wanted.nar_hashes.insert(valid.info.nar_hash),
                None => wanted.hash_parts.insert(member.path.hash_part()),
            };
        }
    }
    Ok(wanted)
}

impl NarCache {
    /// Sees to it that the NAR of a path is kept. Dropping the future leaves a fill that has begun to itself.
    pub async fn make(self: &Arc<Self>, hash: HashPart) -> Result<Outcome, ByHandError> {
        let valid = self.store.valid_path(hash, ClientId::Server).await?.ok_or(ByHandError::NotValid(hash))?;
        if !self.takes(valid.info.nar_size) {
            return Ok(Outcome::Plain);
        }
        let path = || self.store.directory().full_path(&valid.path);
        let failed = |cause| ByHandError::Fill { path: path(), cause };
        let mut nar = self.compressed(&valid, ClientId::Server).await.map_err(failed)?;
        let outcome = if nar.known_length().is_some() { Outcome::Found } else { Outcome::Made };
        nar.length().await.map_err(failed)?;
        Ok(outcome)
    }

    /// Removes the NARs of these paths. What is being sent goes on.
    pub async fn remove(&self, hashes: &[HashPart], recursive: bool) -> Result<Removed, ByHandError> {
        let (wanted, disk) = (wanted(&self.store, hashes, recursive).await?, Arc::clone(&self.disk));
        // As with the scan it may take long.
        let removing = tokio::task::spawn_blocking(move || {
            let mut removed = Removed::default();
            for (key, bytes, _) in matching(disk.directory(), &wanted)? {
                disk.remove(&key);
                removed = Removed { nars: removed.nars + 1, bytes: removed.bytes + bytes };
            }
            Ok(removed)
        });
        removing.await.map_err(std::io::Error::other).and_then(|removed| removed).map_err(ByHandError::Disk)
    }
}
