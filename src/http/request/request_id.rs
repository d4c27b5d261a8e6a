//! `X-Request-Id`: the id of a request, from a proxy or for a client.

use hyper::header::{HeaderMap, HeaderName};

use crate::access_log::MAX_REQUEST_ID;
use crate::fairness::Requester;

/// Name of the header, in requests of proxies and in responses to clients.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns the id that a trusted proxy assigned to the request, if it consists of at most 64 letters, digits, dots, hyphens
/// and underscores. From other peers it is ignored: they must not choose what our log says.
pub(crate) fn from_proxy(headers: &HeaderMap, requester: &Requester) -> Option<String> {
    let id = headers.get(REQUEST_ID).filter(|_| requester.is_proxied())?.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ((1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(is_plain)).then(|| id.to_owned())
}
