//! Operations of `harmonia check` and `harmonia cache` on a NAR cache directory, also while a server uses it.

mod files;
mod preflight;
mod verify;

pub(super) use files::matching;
pub use files::{CachedNar, Removed, Selection, clear, list, remove, stats};
pub use preflight::{disabled_reason, preflight};
pub use verify::{FileCheck, verify};
