//! `/nix-cache-info`: what a client asks before anything else.
//!
//! Made once, so that it is answered while the daemon is down: a failure here makes clients drop the cache.

use bytes::Bytes;
use harmonia_protocol::StoreDir;

/// The body: exactly the keys that every client knows (ncps refuses others), `Priority` always, because clients take
/// an absent one for the most preferred.
#[must_use]
pub(in crate::http) fn render(store: &StoreDir, priority: u32) -> Bytes {
    format!("StoreDir: {store}\nWantMassQuery: 1\nPriority: {priority}\n").into()
}
