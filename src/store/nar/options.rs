//! Options for opening a NAR.

use std::ops::Range;

use crate::config::Verify;

/// Options of [`Store::nar`](crate::store::Store::nar). The default is the whole NAR, verified as configured.
#[derive(Debug, Clone, Default)]
pub struct NarOptions {
    /// The bytes needed; `None` for the whole NAR.
    pub range: Option<Range<u64>>,
    /// Overrides the configured `verify`. Bytes sent for a range that ends before the NAR does are not hashed
    /// themselves.
    pub verify: Option<Verify>,
}

impl NarOptions {
    /// Returns options for a range of the NAR.
    #[must_use]
    pub const fn range(range: Range<u64>) -> Self {
        Self { range: Some(range), verify: None }
    }

    /// Returns options for a copy that outlives this process: the NAR is always hashed.
    #[must_use]
    pub const fn for_cache() -> Self {
        Self { range: None, verify: Some(Verify::Always) }
    }

    /// Returns options for a listing: files verified once are not hashed again.
    pub(crate) const fn for_listing() -> Self {
        Self { range: None, verify: Some(Verify::Once) }
    }
}
