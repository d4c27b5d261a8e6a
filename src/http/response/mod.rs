//! Responses: their headers, their bodies, and how long proxies may cache them.

pub(crate) mod body;
pub(crate) mod cache_control;
pub(crate) mod compress;
pub(crate) mod etag;
pub(crate) mod file_body;
pub(crate) mod headers;
pub(crate) mod listing_body;
pub(crate) mod nar_body;
pub(crate) mod partial;
pub(crate) mod raw_zstd;
pub(crate) mod reclaimable_body;
pub(crate) mod status;
pub(crate) mod stream_body;
pub(crate) mod text;
