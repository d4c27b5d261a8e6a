//! Settings of uploads: `[push]`.

use std::time::Duration;

use harmonia_protocol::signature::PublicKey;

use super::byte_size::ByteSize;

/// Limits of uploads, and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushConfig {
    /// Uploads that are received at the same time.
    pub max_uploads: usize,
    /// Upper bound of the size of an uncompressed NAR.
    pub max_nar_size: ByteSize,
    /// Upper bound of the space of uploads on disk.
    pub max_spool_size: ByteSize,
    /// Upper bound of the space of one principal's uploads on disk.
    pub max_spool_size_per_principal: ByteSize,
    /// Time for which a pushed path is kept from the garbage collector after it was last requested.
    pub keep: Duration,
    /// Keys one of which has to have signed a pushed path, unless it is content-addressed; empty to leave that to nix-daemon.
    pub trusted_public_keys: Vec<PublicKey>,
}
