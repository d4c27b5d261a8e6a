//! The endpoints, one file each.

pub(super) mod browse;
pub(super) mod build_log;
pub(super) mod cache_info;
pub(super) mod compressed_nar;
pub(super) mod debug_info;
mod file;
pub(super) mod landing_page;
pub(super) mod listing;
pub(super) mod lookup;
pub(super) mod metrics;
pub(super) mod nar;
pub(super) mod narinfo;
pub(super) mod path_page;
pub(super) mod public_keys;
pub(super) mod ready;
pub(super) mod realisation;
pub(super) mod serve;
