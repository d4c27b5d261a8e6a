//! Texts that are answered whole: their entity tag, and their encoded form.
//!
//! Owns what is worked out once of a text, however often it is sent. A text that is sent once costs nothing more.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ETAG, HeaderMap, HeaderValue};
use ring::digest::{SHA256, digest};

use super::coding::{Coding, negotiated};
use super::compress::Compression;
use super::response::{self, Keep, Reply};

/// A text that fits into one packet gains nothing from being smaller.
const LEAST: usize = 1400;

/// A text of this cache.
#[derive(Debug)]
pub(super) struct Text {
    bytes: Bytes,
    digest: String,
    tag: HeaderValue,
    /// Made when it is first asked for; nothing if the encoder fails.
    encoded: OnceLock<Option<(Bytes, HeaderValue)>>,
}

impl Text {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = data_encoding::HEXLOWER.encode(&digest(&SHA256, &bytes).as_ref()[..16]);
        let tag = response::etag(&digest);
        Self { bytes, digest, tag, encoded: OnceLock::new() }
    }

    /// The memory that it takes with its encoded form, in bytes, or a little more.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + 2 * self.bytes.len() + 4 * self.digest.len()
    }

    /// The text, by the client's leave encoded, with its entity tag.
    pub(super) fn reply(
        &self,
        compression: Option<&Compression>,
        headers: &HeaderMap,
        keep: Keep,
        kind: &'static str,
    ) -> Reply {
        let compression = compression.filter(|_| self.bytes.len() >= LEAST);
        let encoded = compression
            .filter(|_| negotiated(headers) == Coding::Zstd)
            .and_then(|compression| self.encoded.get_or_init(|| self.encode(compression)).as_ref());
        let (body, coding, tag) = match encoded {
            Some((body, tag)) => (body, Coding::Zstd, tag),
            None => (&self.bytes, Coding::Identity, &self.tag),
        };
        let mut reply = if response::is_held(headers, tag) {
            response::not_modified(keep, tag.clone())
        } else {
            let mut reply = response::text(StatusCode::OK, keep, kind, body.clone());
            response::set_coding(&mut reply, coding);
            response::set(&mut reply, ETAG, tag.clone());
            reply
        };
        if compression.is_some() {
            response::set_vary(&mut reply, "accept-encoding");
        }
        reply
    }

    /// The settings are those of the program, the same for every reply.
    fn encode(&self, compression: &Compression) -> Option<(Bytes, HeaderValue)> {
        let body = compression.encode(&self.bytes).ok()?;
        Some((body.into(), response::etag(&format!("{}-{}", self.digest, compression.tag()))))
    }
}
