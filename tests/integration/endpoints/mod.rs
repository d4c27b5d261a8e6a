//! Responses of each endpoint, and what all endpoints have in common.

mod build_log;
mod content_encoding;
mod debug_info;
mod landing_page;
mod listing;
mod nar_source;
mod nar_source_auto;
mod narinfo;
mod path_page;
mod probes;
mod realisations;
mod serve_by_nar_hash;
mod serve_path;
mod signatures;
mod trust;
