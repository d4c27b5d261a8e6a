//! Texts that are answered whole: their entity tag, and their encoded form.
//!
//! Owns which texts are worth encoding. Nothing of a text is kept: its tag takes less time than looking for one would.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ETAG, HeaderMap};
use twox_hash::XxHash3_128;

use super::coding::{Coding, negotiated};
use super::compress::Compression;
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
    let digest = XxHash3_128::oneshot(&text);
    let compression = compression.filter(|_| (least..=MOST).contains(&text.len()));
    let wanted = compression.filter(|_| negotiated(headers) == Coding::Zstd);
    let encoded = wanted.and_then(|encoding| Some((encoding.encode(&text).ok()?, encoding.tag())));
    let (body, coding, tag) = match encoded {
        Some((body, encoding)) => (body.into(), Coding::Zstd, response::etag(&format!("{digest:032x}-{encoding}"))),
        None => (text, Coding::Identity, response::etag(&format!("{digest:032x}"))),
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
