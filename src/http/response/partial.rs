//! Responses to range requests (RFC 9110, sections 15.3.7 and 15.5.17).

use hyper::StatusCode;
use hyper::header::{CONTENT_RANGE, HeaderValue};

use crate::http::request::range::{ByteRange, unsatisfied_range};
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::{new_response, set, set_content_length};
use crate::http::response::status::status_text;

/// Returns a 206 whose body is this range of the representation.
#[must_use]
pub(crate) fn partial_content(range: &ByteRange, cache_control: CacheControl, body: Body) -> Response {
    let mut response = new_response(StatusCode::PARTIAL_CONTENT, cache_control, body);
    set_content_range(&mut response, &range.content_range());
    set_content_length(&mut response, range.len());
    response
}

/// Returns a 416 for a representation of `size` bytes.
#[must_use]
pub(crate) fn range_not_satisfiable(size: u64) -> Response {
    let mut response = status_text(StatusCode::RANGE_NOT_SATISFIABLE);
    set_content_range(&mut response, &unsatisfied_range(size));
    response
}

fn set_content_range(response: &mut Response, range: &str) {
    if let Ok(range) = HeaderValue::from_str(range) {
        set(response, CONTENT_RANGE, range);
    }
}
