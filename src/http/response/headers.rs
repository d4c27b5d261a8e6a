//! Headers of responses, and those that every response has.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};

use crate::http::request::accept_encoding::ContentCoding;
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;

/// Media type of plain text, which browsers show instead of offering to save it.
pub(crate) const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
/// Allows any origin, header or field for requests without credentials, which are all that there are here.
pub(crate) const ANY: HeaderValue = HeaderValue::from_static("*");

/// Returns a response with the headers that every response has.
///
/// `Accept-Ranges` is on errors too: Nix resumes a broken download only if the *latest* response had it. So is the
/// permission for pages of other origins to read it (CORS): shared caches have one response for all.
#[must_use]
pub(crate) fn new_response(status: StatusCode, cache_control: CacheControl, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
    headers.insert(CACHE_CONTROL, cache_control.header_value());
    response
}

/// Returns a response with a text in memory as its body.
#[must_use]
pub(crate) fn text_response(
    status: StatusCode,
    cache_control: CacheControl,
    media_type: &'static str,
    text: Bytes,
) -> Response {
    let length = text.len() as u64;
    let mut response = new_response(status, cache_control, Body::Bytes(text));
    set(&mut response, CONTENT_TYPE, HeaderValue::from_static(media_type));
    set_content_length(&mut response, length);
    response
}

/// Sets a header.
pub(crate) fn set(response: &mut Response, name: HeaderName, value: HeaderValue) {
    response.headers_mut().insert(name, value);
}

/// Sets `Content-Length`, in bytes.
pub(crate) fn set_content_length(response: &mut Response, length: u64) {
    set(response, CONTENT_LENGTH, HeaderValue::from(length));
}

/// Sets `Content-Encoding`, unless the body is not encoded: Nix 2.3 to 2.33 fail on `identity`.
pub(crate) fn set_content_encoding(response: &mut Response, coding: ContentCoding) {
    if coding == ContentCoding::Zstd {
        set(response, CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
}

/// Sets `Vary`: the request headers on which the body depends.
pub(crate) fn set_vary(response: &mut Response, fields: &'static str) {
    set(response, VARY, HeaderValue::from_static(fields));
}

/// Sets `X-Content-Type-Options`: browsers take the body for what its media type says.
pub(crate) fn set_nosniff(response: &mut Response) {
    set(response, X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
