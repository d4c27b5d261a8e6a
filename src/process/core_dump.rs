//! Disables core dumps, which would contain the signing keys and the TLS key.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Keeps the kernel from dumping core, and other processes of the same user from reading this one's memory. Must be called
/// before a secret is read.
pub(crate) fn disable() {
    if let Err(cause) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("cannot disable core dumps, which would contain secrets: {cause}");
    }
}
