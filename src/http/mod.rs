//! HTTP: parses a request into a route, calls its handler, and builds the response.
//!
//! Owns the endpoints, their bodies and their headers. Leaves sockets and connections to `net`, and what is in the store to
//! `store`. Follows RFC 9110, and what releases of Nix from 2.3 to 2.34 were observed to need.
//!
//! `app` is the state that all requests share, `dispatch` passes a request to one of the `handlers`.

mod access_log_entry;
mod active_responses;
mod admission;
mod app;
mod audit_entry;
mod background;
mod bucket_paths;
mod bucket_texts;
mod dispatch;
pub(crate) mod error;
mod error_log;
mod error_reason;
mod handlers;
mod html;
mod io_limits;
mod links;
mod path_lookup;
pub(crate) mod path_report;
pub mod request;
mod request_metrics;
mod response;
mod serving_policy;
mod uploads;
mod visibility;

pub(crate) use active_responses::ResponseProgress;
pub(crate) use app::App;
pub(crate) use path_lookup::LookedUp;
