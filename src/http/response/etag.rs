//! Entity tags, all of them strong (RFC 9110, section 8.8.3).

use harmonia_protocol::HashPart;
use hyper::header::HeaderValue;

/// Returns the entity tag of this text, which must consist of characters that are allowed in one.
#[must_use]
pub(crate) fn etag(text: &str) -> HeaderValue {
    HeaderValue::try_from(["\"", text, "\""].concat()).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// Returns the entity tag of a path's NAR. Its hash determines the bytes, and an encoding the encoded ones.
#[must_use]
pub(crate) fn nar_etag(hash: HashPart, nar_hash: &str, encoding: Option<&str>) -> HeaderValue {
    match encoding {
        None => etag(&format!("{hash}-{nar_hash}")),
        Some(encoding) => etag(&format!("{hash}-{nar_hash}-{encoding}")),
    }
}
