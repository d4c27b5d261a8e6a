//! The store of one nix-daemon: valid paths, their NARs and files, realisations, and build logs.
//!
//! Everything but files, debug info and build logs comes from nix-daemon over pooled connections; this module never opens
//! Nix's database and never speaks HTTP. Whatever waits here waits in the queue of the client that it is given. Two promises:
//! a path is `Ok(None)` only if nix-daemon itself said that it is not valid, and a [`VerifyingNar`] that ends without an error
//! has exactly the size and the hash of its path info.

mod daemon;
mod error;
mod files;
mod gc_roots;
mod index;
mod nar;
mod path_info;
mod realisation;
mod report;
mod state;
#[cfg(test)]
pub(crate) mod tests;

pub use daemon::deadline::Deadline;
pub use daemon::outage::{Outage, Uptime};
pub use error::StoreError;
pub use files::build_log::{BuildLog, LogCompression};
pub use files::directory::{Directory, EntryKind, Names};
pub use files::regular_file::RegularFile;
pub use files::tree::{Found, FoundObject};
pub use index::build_id::{BuildId, InvalidBuildId};
pub use nar::events::NarEvents;
pub use nar::options::NarOptions;
pub use nar::quarantine::QuarantinedPath;
pub use nar::verifying::VerifyingNar;
pub use path_info::cached_verdict::CachedVerdict;
pub use path_info::closure::{Closure, ClosureLimits, ClosureMember, Incomplete};
pub use path_info::inventory::Inventory;
pub use path_info::lookup::PathStatus;
pub use path_info::valid_path::{CompactInfo, SignatureLines, ValidPath};
pub use realisation::NoRealisation;
pub use state::Store;
