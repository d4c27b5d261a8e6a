//! `If-None-Match` (RFC 9110, section 13.1.2).

use hyper::header::{HeaderMap, HeaderValue, IF_NONE_MATCH};

/// Returns whether the client has the representation that this entity tag identifies.
#[must_use]
pub(crate) fn matches_if_none_match(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let matches = |given: &str| given == "*" || given.strip_prefix("W/").unwrap_or(given).as_bytes() == tag.as_bytes();
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|given| matches(given.trim()))
}
