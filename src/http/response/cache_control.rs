//! `Cache-Control`: how long clients and proxies may reuse a response (RFC 9111).

use hyper::header::HeaderValue;

/// Lifetime of a response in caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheControl {
    /// For as long as anybody likes: the bytes under this URL never change.
    Immutable,
    /// For an hour: paths get deleted, signatures added.
    OneHour,
    /// For as long as the entity tag is the same, which is to be asked each time.
    Revalidate,
    /// Never: a miss today is a hit tomorrow.
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
