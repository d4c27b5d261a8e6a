//! The endpoints, one file each.

pub(super) mod build_log;
pub(super) mod cache_info;
mod file;
pub(super) mod listing;
pub(super) mod nar;
pub(super) mod narinfo;
pub(super) mod serve;
