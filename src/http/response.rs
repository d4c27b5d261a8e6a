//! Responses: the headers that all of them have, and how long proxies may keep them.

use bytes::Bytes;
use harmonia_protocol::HashPart;
use hyper::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, RETRY_AFTER, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use super::body::Body;
use super::coding::Coding;
use super::range::unsatisfied_range;
use super::reason::Reason;

/// What a response leaves with.
pub type Reply = Response<Body>;

/// How long a response may be kept (RFC 9111).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The bytes under this URL never change.
    Forever,
    /// Paths get deleted, signatures added.
    AnHour,
    /// It may change at any time, which its entity tag shows.
    WhileCurrent,
    /// A miss today is a hit tomorrow.
    Not,
}

impl Keep {
    const fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Forever => "public, max-age=31536000, immutable",
            Self::AnHour => "public, max-age=3600",
            Self::WhileCurrent => "public, no-cache",
            Self::Not => "no-store",
        })
    }
}

/// How long a client should wait before it asks again for what was too much. Nix from 2.35 on waits for that long and
/// then as long as it thinks right, which is seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// What browsers show and do not offer to save.
pub const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
/// The id of a request, from a proxy or to a client.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// All, to those who send no credentials, of which there are none here.
const ANY: HeaderValue = HeaderValue::from_static("*");
/// How long a browser need not ask again what it may ask, in seconds.
const PREFLIGHT_HOLDS: HeaderValue = HeaderValue::from_static("86400");

/// A response of `status`.
///
/// `Accept-Ranges` is on every one, errors included: Nix resumes a cut download only if the *latest* answer had it. So is
/// leave for pages of other sites to read it (CORS), whoever asks, since shared caches keep one answer for all.
#[must_use]
pub fn reply(status: StatusCode, keep: Keep, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
    headers.insert(CACHE_CONTROL, keep.value());
    reply
}

/// Sets a header.
pub fn set(reply: &mut Reply, name: HeaderName, value: HeaderValue) {
    reply.headers_mut().insert(name, value);
}

/// Sets a header to a number.
pub fn set_length(reply: &mut Reply, length: u64) {
    set(reply, CONTENT_LENGTH, HeaderValue::from(length));
}

/// Marks the coding of a body. None is never marked: Nix 2.3 to 2.33 fail over `identity`.
pub fn set_coding(reply: &mut Reply, coding: Coding) {
    if coding == Coding::Zstd {
        set(reply, CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
}

/// Says that the body depends on these fields of the request.
pub fn set_vary(reply: &mut Reply, fields: &'static str) {
    set(reply, VARY, HeaderValue::from_static(fields));
}

/// Keeps browsers from taking the body for anything else than its type says.
pub fn set_nosniff(reply: &mut Reply) {
    set(reply, X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// A text in memory.
#[must_use]
pub fn text(status: StatusCode, keep: Keep, kind: &'static str, body: Bytes) -> Reply {
    let length = body.len() as u64;
    let mut reply = reply(status, keep, Body::Bytes(body));
    set(&mut reply, CONTENT_TYPE, HeaderValue::from_static(kind));
    set_length(&mut reply, length);
    reply
}

/// A strong entity tag (RFC 9110, section 8.8.3). `text` must be of its characters.
#[must_use]
pub fn etag(text: &str) -> HeaderValue {
    HeaderValue::try_from(["\"", text, "\""].concat()).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// The entity tag of a path's NAR: the URL fixes the bytes, so the hash part is enough beside the coding.
#[must_use]
pub fn nar_etag(hash: HashPart, nar_hash: &str, coding: Option<&str>) -> HeaderValue {
    match coding {
        None => etag(&format!("{hash}-{nar_hash}")),
        Some(coding) => etag(&format!("{hash}-{nar_hash}-{coding}")),
    }
}

/// Whether the client says that it has what `tag` names (RFC 9110, section 13.1.2).
#[must_use]
pub fn is_held(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let same = |held: &str| held == "*" || held.strip_prefix("W/").unwrap_or(held).as_bytes() == tag.as_bytes();
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|held| same(held.trim()))
}

/// 304 with the headers that a 200 would have had to identify it.
#[must_use]
pub fn not_modified(keep: Keep, tag: HeaderValue) -> Reply {
    let mut reply = reply(StatusCode::NOT_MODIFIED, keep, Body::empty());
    set(&mut reply, ETAG, tag);
    reply
}

/// A client's mistake: the status phrase, plain and short, for people with curl.
#[must_use]
pub fn refusal(status: StatusCode) -> Reply {
    line(status, status.canonical_reason().unwrap_or("error"))
}

/// A line about this moment.
#[must_use]
pub fn plain(phrase: &str) -> Reply {
    line(StatusCode::OK, phrase)
}

fn line(status: StatusCode, phrase: &str) -> Reply {
    text(status, Keep::Not, PLAIN_TEXT, Bytes::from(format!("{phrase}\n")))
}

/// 416, for a representation of `size` bytes.
#[must_use]
pub fn unsatisfiable(size: u64) -> Reply {
    let mut reply = refusal(StatusCode::RANGE_NOT_SATISFIABLE);
    if let Ok(range) = HeaderValue::from_str(&unsatisfied_range(size)) {
        set(&mut reply, CONTENT_RANGE, range);
    }
    reply
}

/// 405: only reading is possible.
#[must_use]
pub fn method_not_allowed() -> Reply {
    let mut reply = refusal(StatusCode::METHOD_NOT_ALLOWED);
    set(&mut reply, ALLOW, ALLOWED_METHODS);
    reply
}

/// 204: what may be asked, here and everywhere, also by pages of other sites (Fetch, section 3.2, "CORS-preflight").
#[must_use]
pub fn options() -> Reply {
    let mut reply = reply(StatusCode::NO_CONTENT, Keep::Not, Body::empty());
    set(&mut reply, ALLOW, ALLOWED_METHODS);
    set(&mut reply, ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
    set(&mut reply, ACCESS_CONTROL_ALLOW_HEADERS, ANY);
    set(&mut reply, ACCESS_CONTROL_MAX_AGE, PREFLIGHT_HOLDS);
    reply
}

/// 404, with a line that says no more than may be known. Clients remember it for an hour and do not try again, so that
/// those of Nix can take a body.
#[must_use]
pub fn not_found(reason: Reason) -> Reply {
    line(reason.status(), reason.public_text())
}

/// 502 or 503: we cannot say now. The request's id leads to the log. A line says why, but to clients that
/// take none, by their user agent.
#[must_use]
pub fn unavailable(reason: Reason, request_id: &str, takes_body: bool) -> Reply {
    let mut reply = if takes_body {
        let again = if reason.status() == StatusCode::SERVICE_UNAVAILABLE { "; try again in 1 s" } else { "" };
        line(reason.status(), &format!("{}{again} (request {request_id})", reason.public_text()))
    } else {
        let mut reply = reply(reason.status(), Keep::Not, Body::empty());
        set_length(&mut reply, 0);
        reply
    };
    set_retry(&mut reply, request_id);
    reply
}

/// 503 with a phrase that says why, where those who ask are no Nix.
#[must_use]
pub fn not_ready(phrase: &str, request_id: &str) -> Reply {
    let mut reply = line(StatusCode::SERVICE_UNAVAILABLE, phrase);
    set_retry(&mut reply, request_id);
    reply
}

fn set_retry(reply: &mut Reply, request_id: &str) {
    // With a 502 it would make the attempts of Nix from 2.35 on last longer, which is what the 502 is for.
    if reply.status() == StatusCode::SERVICE_UNAVAILABLE {
        set(reply, RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        set(reply, REQUEST_ID, id);
    }
}
