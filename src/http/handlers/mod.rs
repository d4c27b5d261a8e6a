//! Handlers of the endpoints, one file each.
//!
//! A handler is a function `respond`: it takes the `App`, the request and what its route parsed, and
//! returns the response, or an error that has a status.

pub(crate) mod browse;
mod bucket_page;
pub(crate) mod build_log;
pub(crate) mod cache_info;
pub(crate) mod debug_info;
pub(crate) mod landing_page;
pub(crate) mod listing;
pub(crate) mod lookup;
pub(crate) mod metrics;
pub(crate) mod nar;
pub(crate) mod narinfo;
pub(crate) mod pasted_path;
mod path_facts;
pub(crate) mod path_page;
pub(crate) mod public_keys;
pub(crate) mod push;
pub(crate) mod ready;
pub(crate) mod realisation;
mod regular_file;
pub(crate) mod serve;
pub(crate) mod version;
