//! `/version`: name and release of this program.

use crate::http::response::body::Response;
use crate::http::response::status::plain_line;

/// Name and release of this program.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// Returns them as a line of text.
pub(crate) fn respond() -> Response {
    plain_line(VERSION)
}
