//! Valid paths by the builds whose debug info they have, which the daemon cannot be asked for.
//!
//! The index is made of all valid paths, where the store is visible here. Most caches are never asked, so the first
//! question begins the first scan, and later ones happen only where a key is not in the index and the store may have
//! changed. One task scans, in small steps, and looks only into paths that look otherwise than before. Clients remember
//! a miss, so one is told from "not known":
//!
//! - A key leads to a path only if the daemon calls it valid now and it has the key now.
//! - A key is nowhere if a scan that began after the question has not found it, or an earlier one and nothing has come
//!   to the store directory or gone since. Only what was registered without a change of the directory (no build, no
//!   substitution and no copy does that) is found later, after ten minutes.
//! - Only valid paths are looked into: a path that is still being written would be taken for one without a key.

use tokio::sync::{Notify, watch};

use crate::store::index::entries::Entries;
use crate::store::index::scans::Scans;

/// Build ids in an index, up to 350 bytes each with what was seen of their paths: those of fifty kernels with all of their
/// modules.
const MAX_KEYS: usize = 500_000;
/// What it is an index of, for messages.
pub(crate) const LABEL: &str = "debug info";

/// An index of valid paths.
#[derive(Debug)]
pub(crate) struct DebugInfoIndex {
    pub(crate) entries: Entries,
    pub(crate) wanted: Notify,
    pub(crate) scans: watch::Sender<Scans>,
}

impl DebugInfoIndex {
    /// An index of a store of which nothing is known yet.
    pub(crate) fn new() -> Self {
        let (scans, _) = watch::channel(Scans::default());
        Self { entries: Entries::new(MAX_KEYS), wanted: Notify::new(), scans }
    }
}
