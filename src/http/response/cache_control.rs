//! `Cache-Control`: how long clients and proxies may reuse a response (RFC 9111).

use hyper::header::HeaderValue;

/// Lifetime of a response in caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheControl {
    /// Unlimited: the bytes under this URL never change.
    Immutable,
    /// One hour: paths get deleted, and signatures added.
    OneHour,
    /// Cached, but revalidated by its entity tag before each use.
    Revalidate,
    /// No caching: a missing path may exist soon.
    NoStore,
}

impl CacheControl {
    /// Returns the value of the header.
    pub(crate) const fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Immutable => "public, max-age=31536000, immutable",
            Self::OneHour => "public, max-age=3600",
            Self::Revalidate => "public, no-cache",
            Self::NoStore => "no-store",
        })
    }
}
