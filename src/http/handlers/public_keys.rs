//! `/pubkey`: the public keys, for people and for scripts that set up a client.

use std::fmt::Write;

use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::context::RequestCx;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::PLAIN_TEXT;
use crate::http::response::text::text;

/// Returns the public keys, one per line.
pub(crate) fn respond(app: &App, cx: RequestCx<'_>) -> Result<Response, HandlerError> {
    let keys = app.signing_keys().public_keys().fold(String::new(), |mut text, key| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}");
        text
    });
    if keys.is_empty() {
        return Err(NotFound::NoPublicKeys.into());
    }
    Ok(text(app.compressor.as_ref(), cx.headers(), CacheControl::OneHour, PLAIN_TEXT, keys.into()))
}
