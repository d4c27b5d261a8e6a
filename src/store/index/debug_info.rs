//! The index: valid paths by the build IDs of their debug info.
//!
//! Covers all valid paths, if the store is visible. Most caches never need it, so the first lookup starts the first
//! scan, and another follows only if a lookup finds nothing and the store may have changed. One task scans, in small
//! steps, and reads only paths that have changed. Clients cache a negative response, so "none" is distinguished from
//! "unknown":
//!
//! - A lookup returns a path only if nix-daemon calls it valid now and it has the debug info now.
//! - There is none if a scan that began after the lookup did not find it, or an earlier one and the store directory has
//!   not changed since. A path registered without such a change (no build, substitution or copy does that) is found
//!   after ten minutes.
//! - Only valid paths are scanned: a path that is still being written would appear to have none.

use tokio::sync::{Notify, watch};

use crate::store::index::entries::Entries;
use crate::store::index::scans::Scans;

/// Capacity in build IDs, at up to 350 bytes each: fifty kernels with all their modules.
const MAX_KEYS: usize = 500_000;
/// Name of what is indexed, for messages.
pub(crate) const LABEL: &str = "debug info";

/// Index of valid paths by build ID.
#[derive(Debug)]
pub(crate) struct DebugInfoIndex {
    pub(crate) entries: Entries,
    pub(crate) wanted: Notify,
    pub(crate) scans: watch::Sender<Scans>,
}

impl DebugInfoIndex {
    /// Creates an empty index.
    pub(crate) fn new() -> Self {
        let (scans, _) = watch::channel(Scans::default());
        Self { entries: Entries::new(MAX_KEYS), wanted: Notify::new(), scans }
    }
}
