//! The context of a request that every handler gets.

use hyper::Method;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;

use crate::access::Granted;
use crate::fairness::ClientId;

/// Head of a request, and the client that it is from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestCx<'r> {
    /// Method, URL, version and headers.
    pub(crate) parts: &'r Parts,
    /// The client; behind a trusted proxy the one that it names in `X-Forwarded-For`.
    pub(crate) client: ClientId,
    /// Who makes the request, and what it may do.
    pub(crate) granted: &'r Granted,
}

impl<'r> RequestCx<'r> {
    /// Returns the headers.
    pub(crate) const fn headers(self) -> &'r HeaderMap {
        &self.parts.headers
    }

    /// Returns whether only the head of the response is requested.
    pub(crate) fn is_head(self) -> bool {
        self.parts.method == Method::HEAD
    }

    /// Returns whether the client knows no chunked encoding: without a `Content-Length` it cannot tell the end of a body
    /// from a broken connection. HTTP/1.0 is what nginx speaks to its upstreams by default.
    pub(crate) fn needs_content_length(self) -> bool {
        self.parts.version <= hyper::Version::HTTP_10
    }
}
