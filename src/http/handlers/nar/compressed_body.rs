//! Responses with bytes of a compressed NAR.

use hyper::StatusCode;
use hyper::header::{ACCEPT_RANGES, CONTENT_TYPE, HeaderValue};

use super::lookup::NAR_TYPE;
use crate::http::request::context::RequestCx;
use crate::http::request::range::{Selection, applicable_range, resolve};
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::{new_response, set, set_content_length};
use crate::http::response::partial::{partial_content, range_not_satisfiable};
use crate::nar_cache::{CompressedNar, FillError};

/// A compressed NAR, or the reason why there is none.
pub(crate) type Compressed = Result<CompressedNar, FillError>;

/// Answers with all of it, or with the requested range.
pub(crate) async fn resumable(cx: RequestCx<'_>, etag: &HeaderValue, nar: Compressed) -> Result<Response, FillError> {
    let mut nar = nar?;
    if let Some(range) = applicable_range(cx.headers(), etag) {
        let length = nar.length().await?;
        match resolve(Some(range), length) {
            Selection::Range(range) => {
                let body = nar.open(Some(range.bounds())).await?;
                return Ok(partial_content(&range, CacheControl::Immutable, Body::Compressed(Box::new(body))));
            }
            Selection::Unsatisfiable => return Ok(range_not_satisfiable(length)),
            Selection::Whole => {}
        }
    }
    complete(cx, CacheControl::Immutable, Ok(nar)).await
}

/// Answers with all of it. A client that needs a `Content-Length` waits until the NAR is compressed.
pub(crate) async fn complete(
    cx: RequestCx<'_>,
    cache_control: CacheControl,
    nar: Compressed,
) -> Result<Response, FillError> {
    let mut nar = nar?;
    let range = if cx.needs_content_length() { Some(0..nar.length().await?) } else { None };
    let body = nar.open(range).await?;
    let length = body.remaining();
    let mut response = new_response(StatusCode::OK, cache_control, Body::Compressed(Box::new(body)));
    if let Some(length) = length {
        set_content_length(&mut response, length);
    }
    Ok(response)
}

/// Says that the body must not be resumed: another request may get other bytes.
pub(super) fn not_resumable(mut response: Response) -> Response {
    set(&mut response, ACCEPT_RANGES, HeaderValue::from_static("none"));
    set(&mut response, CONTENT_TYPE, NAR_TYPE);
    response
}
