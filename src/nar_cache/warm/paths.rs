//! Which store paths an operator's list of hash parts stands for, and which files of the cache belong to them.

use harmonia_protocol::{HashPart, StorePath};
use serde::{Deserialize, Serialize};

use crate::fairness::ClientId;
use crate::nar_cache::admin::Selection;
use crate::nar_cache::error::FillError;
use crate::store::{ClosureLimits, ClosureMember, Incomplete, Store, StoreError};

/// Limit on the paths of a closure: more than any store has, and less than half a gigabyte of memory.
const MAX_PATHS: usize = 1 << 20;

/// A reason why NARs cannot be compressed or removed.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// There is no such path.
    #[error("no valid path has the hash part {0}")]
    NotValid(HashPart),
    /// nix-daemon cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The closure is incomplete.
    #[error("cannot resolve the closure: {0}")]
    Closure(Incomplete),
    /// The NAR cannot be read or written.
    #[error("cannot compress the NAR of {path}: {cause}")]
    Fill {
        /// The path of the NAR.
        path: String,
        /// The reason.
        cause: FillError,
    },
    /// The directory cannot be read.
    #[error("cannot scan the NAR cache: {0}")]
    Disk(std::io::Error),
}

impl WarmError {
    /// Returns whether nix-daemon was unavailable, so that trying again may succeed.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        match self {
            Self::Store(error) | Self::Fill { cause: FillError::Store(error), .. } => error.is_unavailable(),
            _ => false,
        }
    }
}

/// The outcome of compressing the NAR of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarmOutcome {
    /// Compressed now.
    Compressed,
    /// Already in the cache.
    Cached,
    /// Too large for the cache; served uncompressed.
    TooLarge,
}

/// Looks up these paths, and with `recursive` their closures.
pub async fn resolve(store: &Store, hashes: &[HashPart], recursive: bool) -> Result<Vec<ClosureMember>, WarmError> {
    let mut roots = Vec::new();
    for hash in hashes {
        roots.push(store.valid_path(*hash, ClientId::Server).await?.ok_or(WarmError::NotValid(*hash))?);
    }
    if !recursive {
        let member = |path: &StorePath, nar_size| ClosureMember { path: path.clone(), nar_size };
        return Ok(roots.iter().map(|valid| member(&valid.path, valid.info.nar_size)).collect());
    }
    let limits = ClosureLimits { paths: MAX_PATHS, time: None };
    let closure = store.closure(&roots, limits, |_| true, ClientId::Server).await;
    match closure.incomplete {
        None => Ok(closure.members),
        Some(Incomplete::Store(error)) => Err(error.into()),
        Some(Incomplete::NotValid(path)) => Err(WarmError::NotValid(path.hash_part())),
        Some(missing) => Err(WarmError::Closure(missing)),
    }
}

/// Selects the files of these paths, and with `recursive` of their closures: by NAR hash for valid paths, and by the name in
/// the file for others. Without `recursive` it uses names for all paths if nix-daemon is unavailable.
pub async fn select(store: &Store, hashes: &[HashPart], recursive: bool) -> Result<Selection, WarmError> {
    let mut selection = Selection::default();
    for hash in hashes {
        let members = match resolve(store, &[*hash], recursive).await {
            Ok(members) => members,
            Err(error) => {
                let is_gone = matches!(error, WarmError::NotValid(missing) if missing == *hash);
                if is_gone || (error.is_unavailable() && !recursive) {
                    selection.hash_parts.insert(*hash);
                    continue;
                }
                return Err(error);
            }
        };
        for member in members {
            match store.valid_path(member.path.hash_part(), ClientId::Server).await? {
                Some(valid) => selection.nar_hashes.insert(valid.info.nar_hash),
                None => selection.hash_parts.insert(member.path.hash_part()),
            };
        }
    }
    Ok(selection)
}
