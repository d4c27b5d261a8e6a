//! The store of one nix-daemon: valid paths, their NARs and files, realisations, and build logs.
//!
//! Everything but files, debug info and build logs comes from nix-daemon over pooled connections; this module never opens
//! Nix's database and never speaks HTTP. Whatever waits here waits in the queue of the client that it is given. Two promises:
//! a path is `Ok(None)` only if nix-daemon itself said that it is not valid, and a [`VerifyingNar`] that ends without an error
//! has exactly the size and the hash of its path info.

mod add;
mod daemon;
mod error;
mod files;
mod gc_roots;
mod hidden;
mod index;
mod nar;
mod path_info;
mod pins;
mod realisation;
mod report;
mod rooted;
mod state;
mod state_files;
#[cfg(test)]
pub(crate) mod tests;
mod views;

pub(crate) use add::{AddError, Adding};
pub(crate) use daemon::deadline::Deadline;
pub(crate) use daemon::outage::{Outage, Uptime};
pub(crate) use error::StoreError;
pub(crate) use files::build_log::{BuildLog, LogCompression};
pub(crate) use files::directory::{Directory, EntryKind, Names};
pub(crate) use files::regular_file::RegularFile;
pub(crate) use files::tree::{Found, FoundObject};
pub(crate) use hidden::file::HiddenError;
pub(crate) use hidden::hidden_path::{HiddenPath, MAX_TEXT};
pub(crate) use index::build_id::BuildId;
pub(crate) use nar::events::NarEvents;
pub(crate) use nar::listing::ListingRenderer;
pub(crate) use nar::options::NarOptions;
pub(crate) use nar::quarantine::QuarantinedPath;
pub(crate) use nar::verifying::VerifyingNar;
pub(crate) use path_info::closure::{Closure, ClosureLimits, ClosureMember, Incomplete};
pub(crate) use path_info::inventory::Inventory;
pub(crate) use path_info::lookup::PathStatus;
#[cfg(feature = "bucket")]
pub(crate) use path_info::single_flight::SingleFlight;
pub(crate) use path_info::valid_path::{SignatureLines, ValidPath};
pub(crate) use pins::error::PinError;
pub(crate) use pins::name::PinName;
pub(crate) use pins::pin::{Generation, Pin};
pub(crate) use realisation::NoRealisation;
pub(crate) use state::Store;
#[cfg(feature = "bucket")]
pub(crate) use state_files::{
    create_directory as create_state_directory, read as read_state_file, replace as replace_state_file,
};
pub(crate) use state_files::{now as unix_time, seconds_since_epoch};
