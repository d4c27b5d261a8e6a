//! Responses that have no more to say than their status: 204, redirects, 304, 4xx and 5xx.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ALLOW, ETAG, HeaderValue,
    LOCATION, RETRY_AFTER,
};

use crate::http::error_reason::Reason;
use crate::http::request::request_id::REQUEST_ID;
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::{ANY, PLAIN_TEXT, new_response, set, set_content_length, text_response};

/// Seconds that a client should wait before it repeats a request that got a 503. Nix since 2.35 waits for this long, then
/// for as long as its own backoff says, which is seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Seconds for which a browser may reuse the response to a preflight request.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// Returns a 200 with one line of text, which is about this moment.
#[must_use]
pub(crate) fn plain_line(text: &str) -> Response {
    line(StatusCode::OK, text)
}

/// Returns the 204 to OPTIONS, which is also that to a preflight request of a browser (Fetch, section 3.2,
/// "CORS-preflight").
#[must_use]
pub(crate) fn options() -> Response {
    let mut response = new_response(StatusCode::NO_CONTENT, CacheControl::NoStore, Body::empty());
    set(&mut response, ALLOW, ALLOWED_METHODS);
    set(&mut response, ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
    set(&mut response, ACCESS_CONTROL_ALLOW_HEADERS, ANY);
    set(&mut response, ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    response
}

/// Returns a redirect to `location`, which should be relative: a proxy may serve this cache below any path.
#[must_use]
pub(crate) fn redirect(status: StatusCode, cache_control: CacheControl, location: &str) -> Response {
    let mut response = new_response(status, cache_control, Body::empty());
    set_content_length(&mut response, 0);
    if let Ok(location) = HeaderValue::from_str(location) {
        set(&mut response, LOCATION, location);
    }
    response
}

/// Returns a 304 with the headers of the 200 that identify the representation.
#[must_use]
pub(crate) fn not_modified(cache_control: CacheControl, tag: HeaderValue) -> Response {
    let mut response = new_response(StatusCode::NOT_MODIFIED, cache_control, Body::empty());
    set(&mut response, ETAG, tag);
    response
}

/// Returns the response to a client's mistake: the phrase of the status as a line of text.
#[must_use]
pub(crate) fn status_text(status: StatusCode) -> Response {
    line(status, status.canonical_reason().unwrap_or("error"))
}

/// Returns a 405.
#[must_use]
pub(crate) fn method_not_allowed() -> Response {
    let mut response = status_text(StatusCode::METHOD_NOT_ALLOWED);
    set(&mut response, ALLOW, ALLOWED_METHODS);
    response
}

/// Returns a 404 with a line for the client. It may always have a body: clients cache a 404 for an hour and do not retry.
#[must_use]
pub(crate) fn not_found(reason: Reason) -> Response {
    line(reason.status(), reason.public_text())
}

/// Returns a 502 or 503, whose request id leads to the line in the log. It has a line for the client unless `has_body` is
/// false.
#[must_use]
pub(crate) fn unavailable(reason: Reason, request_id: &str, has_body: bool) -> Response {
    let mut response = if has_body {
        let retry = if reason.status() == StatusCode::SERVICE_UNAVAILABLE { "; try again in 1 s" } else { "" };
        line(reason.status(), &format!("{}{retry} (request {request_id})", reason.public_text()))
    } else {
        let mut response = new_response(reason.status(), CacheControl::NoStore, Body::empty());
        set_content_length(&mut response, 0);
        response
    };
    set_retry(&mut response, request_id);
    response
}

/// Returns the 503 of `/ready` with a line that says why. It always has one: Nix does not request `/ready`.
#[must_use]
pub(crate) fn not_ready(why: &str, request_id: &str) -> Response {
    let mut response = line(StatusCode::SERVICE_UNAVAILABLE, why);
    set_retry(&mut response, request_id);
    response
}

fn line(status: StatusCode, text: &str) -> Response {
    text_response(status, CacheControl::NoStore, PLAIN_TEXT, Bytes::from(format!("{text}\n")))
}

fn set_retry(response: &mut Response, request_id: &str) {
    // With a 502 it would prolong the retries of Nix since 2.35, which the 502 is there to avoid.
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        set(response, RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        set(response, REQUEST_ID, id);
    }
}
