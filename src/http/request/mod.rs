//! Requests: what the URL and the headers ask for.

pub mod accept_encoding;
pub(crate) mod base_url;
pub(crate) mod conditional;
pub(crate) mod context;
pub(crate) mod host;
pub(crate) mod lookup_query;
pub mod pasted_path;
pub mod range;
pub(crate) mod request_id;
pub mod route;
pub(crate) mod upload_body;
pub(crate) mod user_agent;
