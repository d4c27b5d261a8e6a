//! Reasons why a path is not published, and why publishing stops for now.

use std::collections::BTreeMap;

use harmonia_protocol::{HashPart, StoreDir};

use crate::bucket::cache_info::OtherStoreDir;
use crate::bucket::engine::BucketError;
use crate::nar_cache::FillError;
use crate::store::StoreError;

/// Reason why a path is not published, while others are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::bucket) enum Obstacle {
    /// nix-daemon says that it is not valid.
    #[error("it is not valid")]
    NotValid,
    /// An operator hides it.
    #[error("it is hidden\n  help: harmonia unhide shows it again")]
    Hidden,
    /// Its NAR does not match its path info.
    #[error("it is quarantined: its NAR does not match its path info")]
    Quarantined,
    /// It is not trusted.
    #[error(
        "it is not trusted: neither built here nor signed by a trusted key\n  help: see sign and trusted_public_keys"
    )]
    Untrusted,
    /// No key signs it, so that no host would serve it.
    #[error("no key signs it\n  help: set sign_key_paths")]
    Unsigned,
    /// Its NAR may not fit into the NAR cache.
    #[error("its NAR may not fit into the NAR cache\n  help: raise nar_cache.max_size")]
    TooLarge,
    /// Its NAR cannot be read.
    #[error("its NAR cannot be read: {0}")]
    Unreadable(String),
    /// A request for one of its objects fails, while others succeed. It is tried again.
    #[error("{0}")]
    Failed(String),
    /// A path that it refers to is not in the bucket.
    #[error("{0}, which it refers to, is not in the bucket")]
    Reference(HashPart),
    /// The closure has more paths than are published at a time.
    #[error("its closure has more than {0} paths")]
    TooManyPaths(usize),
}

impl Obstacle {
    /// Returns whether something is wrong that a person has to know of; else it is what somebody has decided.
    pub(super) const fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Quarantined | Self::TooLarge | Self::Unreadable(_) | Self::Failed(_) | Self::TooManyPaths(_)
        )
    }
}

/// Returns the path for which another one is not published, and the reason: that of a reference, which may have one itself.
pub(super) fn cause(path: HashPart, obstacles: &BTreeMap<HashPart, Obstacle>) -> Option<(HashPart, &Obstacle)> {
    let mut cause = (path, obstacles.get(&path)?);
    // Each step leads to another path.
    for _ in 0..obstacles.len() {
        let Obstacle::Reference(reference) = cause.1 else { break };
        let Some(obstacle) = obstacles.get(reference) else { break };
        cause = (*reference, obstacle);
    }
    Some(cause)
}

/// Reason why nothing is published now. It passes by waiting.
#[derive(Debug, thiserror::Error)]
pub(in crate::bucket) enum Interruption {
    /// The object store cannot be used.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// nix-daemon does not reply.
    #[error(transparent)]
    Store(StoreError),
    /// The NAR cache cannot be used.
    #[error(transparent)]
    NarCache(FillError),
    /// An object that was in the bucket is there no more.
    #[error("a garbage collection has deleted what is referred to, which is published again")]
    Deleted,
    /// The bucket has paths of another store directory.
    #[error("the bucket is of {theirs}, not of {ours}\n  help: set bucket.url to another bucket or prefix")]
    OtherStore {
        /// Its store directory.
        theirs: OtherStoreDir,
        /// Store directory of this host.
        ours: StoreDir,
    },
}

/// Divides errors of the store into those of one path and those of all.
pub(super) fn of_store(error: StoreError) -> Result<Obstacle, Interruption> {
    match error {
        error if error.is_unavailable() => Err(Interruption::Store(error)),
        StoreError::NotValid(_) => Ok(Obstacle::NotValid),
        error => Ok(Obstacle::Unreadable(error.to_string())),
    }
}

/// Divides errors of a fill likewise.
pub(super) fn of_fill(error: FillError) -> Result<Obstacle, Interruption> {
    match error {
        FillError::Store(error) => of_store(error),
        error => Err(Interruption::NarCache(error)),
    }
}
