//! The NAR that nix-daemon promises for a path.

use crate::store::path_info::valid_path::ValidPath;
use harmonia_protocol::StorePath;
use harmonia_protocol::hash::NarHash;

/// Path, size and hash that nix-daemon reports for a NAR.
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
