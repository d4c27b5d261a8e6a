//! The bucket: an object store in which several hosts publish what they have, and from which they serve what the others have.
//!
//! Owns the names and formats of objects (`object_name`, `narinfo`, `segment`, `host_file`), what a host remembers of them
//! (`filter`, `index`), requests (`engine`), the order of publishing (`publish`) and
//! of deleting (`gc`), and lookups of what others have published (`read`). The bucket has Nix's own layout, so that plain Nix
//! can read it; everything else is below `harmonia/v1/`. Nothing that is read from it is trusted: narinfos have to be signed,
//! all else is bounded and parsed. Leaves HTTP to `http`, and NARs to `nar_cache`.

mod cache_info;
pub mod canonical;
mod census;
mod engine;
mod file_hash;
mod filter;
mod gc;
mod host_file;
mod hosts;
mod index;
mod narinfo;
mod object_name;
mod probe;
mod publish;
mod read;
mod segment;
mod state;
mod upkeep;
mod used;

pub(crate) use cache_info::{MAX_CACHE_INFO, OtherStoreDir, check_cache_info};
pub(crate) use census::{Amount, Census};
pub(crate) use engine::{
    BucketError, BucketStore, FailureKind, ObjectBody, OpenError, Patience, Replace, WebBody, WebCache,
};
pub(crate) use file_hash::NarFile;
pub(crate) use gc::{
    Ages, BucketPinName, BucketPinNameError, Collector, GcError, GcProgress, GcReport, GcStep, PinFile, pin, pins,
    undo_gc, unpin,
};
pub(crate) use host_file::HostFile;
pub(crate) use hosts::hosts;
pub(crate) use index::{Index, Indexed};
pub(crate) use narinfo::{BucketNarInfo, MAX_NARINFO, is_signed};
pub(crate) use object_name::{ObjectName, RunId};
pub(crate) use probe::{Probed, Trial};
pub(crate) use publish::progress::{PublishProgress, Refused};
pub(crate) use publish::{Chunks, NarSource, Publication, Publisher};
pub(crate) use read::Unreachable;
pub(crate) use state::Bucket;
