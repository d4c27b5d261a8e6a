//! Options for opening a NAR.

use std::ops::Range;

use crate::config::Verify;

/// Options of [`Store::nar`](crate::store::Store::nar). The default is the whole NAR, verified as configured.
#[derive(Debug, Clone, Default)]
pub struct NarOptions {
    /// Bytes that are needed; `None` for all.
    pub range: Option<Range<u64>>,
    /// When the NAR is hashed; `None` as configured. A range that does not reach the end of the NAR is never hashed.
    pub verify: Option<Verify>,
}

impl NarOptions {
    /// Returns options for these bytes.
    #[must_use]
    pub const fn range(range: Range<u64>) -> Self {
        Self { range: Some(range), verify: None }
    }

    /// Returns options for a copy that outlives this process, which forgets what it has verified: always hashes the NAR.
    #[must_use]
    pub const fn for_cache() -> Self {
        Self { range: None, verify: Some(Verify::Always) }
    }

    /// Returns options for a listing, which one verification of the store's files is enough for.
    pub(crate) const fn for_listing() -> Self {
        Self { range: None, verify: Some(Verify::Once) }
    }
}
