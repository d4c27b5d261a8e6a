//! Size and hash that nix-daemon's path info gives for a NAR.

use crate::store::path_info::valid_path::ValidPath;
use harmonia_protocol::StorePath;
use harmonia_protocol::hash::NarHash;

/// Size and hash that a path's NAR must have, according to nix-daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedNar {
    pub(crate) path: StorePath,
    pub(crate) nar_hash: NarHash,
    pub(crate) nar_size: u64,
}

impl ExpectedNar {
    pub(crate) fn from_valid_path(valid: &ValidPath) -> Self {
        Self { path: valid.path.clone(), nar_hash: valid.info.nar_hash, nar_size: valid.info.nar_size }
    }
}
