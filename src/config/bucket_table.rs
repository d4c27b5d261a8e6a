//! Values of the keys of `[bucket]`.

use std::path::PathBuf;

use harmonia_protocol::signature::PublicKey;

use super::bucket_url::{BucketLocation, HttpUrl};
use super::byte_size::ByteSize;
use super::host_name::HostName;
use super::keyword::keywords;

/// A redirect costs the client a round trip and a connection; from here on the download takes longer than that.
const DEFAULT_REDIRECT_FROM: ByteSize = ByteSize::mebibytes(1);

/// Values of the keys of `[bucket]`, as a file has them.
#[derive(Debug, Default)]
pub(super) struct BucketTable {
    pub(super) url: Option<BucketLocation>,
    pub(super) endpoint: Option<HttpUrl>,
    pub(super) region: Option<String>,
    pub(super) allow_http: Option<bool>,
    pub(super) credentials_file: Option<PathBuf>,
    pub(super) host: Option<HostName>,
    pub(super) publish: Option<Publish>,
    pub(super) max_upload_rate: Option<ByteSize>,
    pub(super) trusted_public_keys: Vec<PublicKey>,
    pub(super) read: Option<bool>,
    pub(super) redirect_from: Option<RedirectFrom>,
    pub(super) public_url: Option<HttpUrl>,
    pub(super) unreachable: Option<Unreachable>,
}

/// Paths that are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Publish {
    /// None, but for `harmonia bucket publish`.
    #[default]
    None,
    /// Those whose narinfo was served, with their closures.
    Served,
    /// All valid paths that may be signed.
    All,
}

keywords!(Publish, r#""none", "served" or "all""#, "none" => None, "served" => Served, "all" => All);

/// Answer for paths of others while the object store is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreachable {
    /// 503: clients try again or ask another cache.
    #[default]
    Retry,
    /// 404, which clients remember for an hour.
    Miss,
}

keywords!(Unreachable, r#""retry" or "miss""#, "retry" => Retry, "miss" => Miss);

/// NARs for which clients are redirected to the object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectFrom {
    /// Those whose files have at least this size.
    Size(ByteSize),
    /// None: this host sends them.
    Never,
}

impl Default for RedirectFrom {
    fn default() -> Self {
        Self::Size(DEFAULT_REDIRECT_FROM)
    }
}
