//! Responses of each endpoint, and what all endpoints have in common.

mod build_log;
mod cache_info;
mod content_encoding;
mod debug_info;
mod error_responses;
mod http2;
mod listing;
mod lookup;
mod metrics;
mod nar;
mod narinfo_cache;
mod path_page;
mod prefetch;
mod probes;
mod ranges;
mod serve_by_nar_hash;
mod serve_path;
mod streamed_pages;
mod transport;
mod verify;
