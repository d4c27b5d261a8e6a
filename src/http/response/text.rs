//! Texts: entity tag, `Content-Encoding` and `Vary`.
//!
//! Owns which texts are compressed. Rendered texts are not cached: rendering one takes no longer than a lookup.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use twox_hash::XxHash3_128;

use crate::http::request::accept_encoding::{ContentCoding, negotiate};
use crate::http::request::conditional::matches_if_none_match;
use crate::http::request::context::RequestCx;
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::compress::{StreamCompression, TextCompressor};
use crate::http::response::etag::etag;
use crate::http::response::headers::{new_response, set, set_content_encoding, set_vary, text_response};
use crate::http::response::status::not_modified;

/// Smallest text that is compressed, in bytes: a smaller one fits into one packet anyway.
const MIN_COMPRESSED: usize = 1400;
/// Largest text that is compressed, in bytes: a larger one would take too long on a thread that serves other requests.
const MAX_COMPRESSED: usize = 256 << 10;

/// Returns a text with its entity tag, compressed if the client accepts that; or 304.
pub(crate) fn text(
    compressor: Option<&TextCompressor>,
    headers: &HeaderMap,
    cache_control: CacheControl,
    media_type: &'static str,
    text: Bytes,
) -> Response {
    text_compressed_from(MIN_COMPRESSED, compressor, headers, cache_control, media_type, text)
}

/// Returns a text as [`text`] does, compressed only if it has at least `min_compressed` bytes.
pub(crate) fn text_compressed_from(
    min_compressed: usize,
    compressor: Option<&TextCompressor>,
    headers: &HeaderMap,
    cache_control: CacheControl,
    media_type: &'static str,
    text: Bytes,
) -> Response {
    let digest = HEXLOWER.encode(&XxHash3_128::oneshot(&text).to_be_bytes());
    let compressor = compressor.filter(|_| (min_compressed..=MAX_COMPRESSED).contains(&text.len()));
    let accepted = compressor.filter(|_| negotiate(headers) == ContentCoding::Zstd);
    let compressed = accepted.and_then(|compressor| Some((compressor.compress(&text).ok()?, compressor.tag())));
    let (body, coding, tag) = match compressed {
        Some((body, encoding)) => (body.into(), ContentCoding::Zstd, etag(&format!("{digest}-{encoding}"))),
        None => (text, ContentCoding::Identity, etag(&digest)),
    };
    let mut response = if matches_if_none_match(headers, &tag) {
        not_modified(cache_control, tag)
    } else {
        let mut response = text_response(StatusCode::OK, cache_control, media_type, body);
        set_content_encoding(&mut response, coding);
        set(&mut response, ETAG, tag);
        response
    };
    if compressor.is_some() {
        set_vary(&mut response, "accept-encoding");
    }
    response
}

/// Returns the head of a text that is rendered while it is sent, and the compression for its body; or 304.
///
/// `tag` must differ for different texts and consist of characters that are allowed in an entity tag. A client that needs
/// a `Content-Length` gets the text uncompressed, so that its length can be determined first.
pub(crate) fn streamed_text(
    compressor: Option<&TextCompressor>,
    cx: RequestCx<'_>,
    cache_control: CacheControl,
    media_type: &'static str,
    tag: &str,
) -> (Response, Option<StreamCompression>) {
    let may_compress = compressor.is_some() && !cx.needs_content_length();
    let is_accepted = || negotiate(cx.headers()) == ContentCoding::Zstd;
    let compression = Some(StreamCompression::FIXED).filter(|_| may_compress && is_accepted());
    let tag = match compression {
        Some(compression) => etag(&format!("{tag}-{}", compression.tag())),
        None => etag(tag),
    };
    let mut response = if matches_if_none_match(cx.headers(), &tag) {
        not_modified(cache_control, tag)
    } else {
        let mut response = new_response(StatusCode::OK, cache_control, Body::empty());
        set(&mut response, CONTENT_TYPE, HeaderValue::from_static(media_type));
        set(&mut response, ETAG, tag);
        let coding = if compression.is_some() { ContentCoding::Zstd } else { ContentCoding::Identity };
        set_content_encoding(&mut response, coding);
        response
    };
    if compressor.is_some() {
        set_vary(&mut response, "accept-encoding");
    }
    (response, compression)
}
