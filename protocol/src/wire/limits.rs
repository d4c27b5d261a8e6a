//! Upper bounds of the lengths and counts that a peer claims.

/// Longest path, signature, hash or content address, in bytes.
pub const MAX_STRING: usize = 64 * 1024;
/// Longest log line, error text or JSON document, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;
/// Largest count of a collection: some of the largest stores known hold a million paths.
pub const MAX_ENTRIES: usize = 4 * 1024 * 1024;

/// Returns a claimed length or count, or `None` if it exceeds `max`.
pub(super) fn checked(claimed: u64, max: usize) -> Option<usize> {
    usize::try_from(claimed).ok().filter(|claimed| *claimed <= max)
}
