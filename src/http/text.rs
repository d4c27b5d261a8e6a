//! Texts: their entity tag, and their encoded form.
//!
//! Owns which texts are worth encoding, and the head of one that is rendered while it is sent. Nothing of a text is kept: its
//! tag takes less time than looking for one would.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{StatusCode, Version};
use twox_hash::XxHash3_128;

use super::body::Body;
use super::coding::{Coding, negotiated};
use super::compress::{Compression, StreamEncoding};
use super::response::{self, Keep, Reply};

/// A text that fits into one packet gains nothing from being smaller, in bytes.
pub(super) const ONE_PACKET: usize = 1400;
/// Longer texts are not encoded on a thread that serves others.
const MOST: usize = 256 << 10;

/// The text, by the client's leave encoded if it has `least` bytes or more, with its entity tag.
pub(super) fn reply(
    text: Bytes,
    least: usize,
    compression: Option<&Compression>,
    headers: &HeaderMap,
    keep: Keep,
    kind: &'static str,
) -> Reply {
    let digest = HEXLOWER.encode(&XxHash3_128::oneshot(&text).to_be_bytes());
    let compression = compression.filter(|_| (least..=MOST).contains(&text.len()));
    let wanted = compression.filter(|_| negotiated(headers) == Coding::Zstd);
    let encoded = wanted.and_then(|encoding| Some((encoding.encode(&text).ok()?, encoding.tag())));
    let (body, coding, tag) = match encoded {
        Some((body, encoding)) => (body.into(), Coding::Zstd, response::etag(&format!("{digest}-{encoding}"))),
        None => (text, Coding::Identity, response::etag(&digest)),
    };
    let mut reply = if response::is_held(headers, &tag) {
        response::not_modified(keep, tag)
    } else {
        let mut reply = response::text(StatusCode::OK, keep, kind, body);
        response::set_coding(&mut reply, coding);
        response::set(&mut reply, ETAG, tag);
        reply
    };
    if compression.is_some() {
        response::set_vary(&mut reply, "accept-encoding");
    }
    reply
}

/// The head of a text that is rendered while it is sent, with the encoding to send it in; or 304. `tag` is of the characters
/// of an entity tag, and another one for each other text.
///
/// HTTP/1.0 has no chunks, so its text is never encoded: its length can be counted before.
pub(super) fn streamed(
    compression: Option<&Compression>,
    request: &Parts,
    keep: Keep,
    kind: &'static str,
    tag: &str,
) -> (Reply, Option<StreamEncoding>) {
    let may_be_encoded = compression.is_some() && request.version > Version::HTTP_10;
    let encoding =
        Some(StreamEncoding::FIXED).filter(|_| may_be_encoded && negotiated(&request.headers) == Coding::Zstd);
    let tag = match encoding {
        Some(encoding) => response::etag(&format!("{tag}-{}", encoding.tag())),
        None => response::etag(tag),
    };
    let mut reply = if response::is_held(&request.headers, &tag) {
        response::not_modified(keep, tag)
    } else {
        let mut reply = response::reply(StatusCode::OK, keep, Body::empty());
        response::set(&mut reply, CONTENT_TYPE, HeaderValue::from_static(kind));
        response::set(&mut reply, ETAG, tag);
        response::set_coding(&mut reply, if encoding.is_some() { Coding::Zstd } else { Coding::Identity });
        reply
    };
    if compression.is_some() {
        response::set_vary(&mut reply, "accept-encoding");
    }
    (reply, encoding)
}
