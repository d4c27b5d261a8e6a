//! Requests: what the URL and the headers ask for.

pub mod accept_encoding;
pub mod base_url;
pub mod conditional;
pub mod context;
pub mod host;
pub mod lookup_query;
pub mod pasted_path;
pub mod range;
pub mod request_id;
pub mod route;
pub mod user_agent;
