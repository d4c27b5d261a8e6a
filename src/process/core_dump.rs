//! No core dumps: one would hold the signing keys and the key of the certificate.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Keeps the kernel from writing one, into a file or to a program that collects them, and other processes of the same
/// user from reading this one's memory. To be called before a secret is read.
pub fn forbid() {
    if let Err(cause) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("a core dump of this process would hold its secrets: {cause}");
    }
}
