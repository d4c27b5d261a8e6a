//! Path infos of valid paths: queries of nix-daemon, shared by all clients that wait, and their cache.

pub(super) mod batch;
pub(super) mod cache;
pub(super) mod cached_verdict;
pub(super) mod closure;
pub(super) mod entry;
pub(super) mod example_path;
pub(super) mod inventory;
pub(super) mod lookup;
pub(super) mod nar_hash;
pub(super) mod path_stamp;
pub(super) mod prefetch;
pub(super) mod prefetch_queue;
pub(super) mod query;
pub(super) mod single_flight;
pub(super) mod store_names;
pub(super) mod valid_path;
