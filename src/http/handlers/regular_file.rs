//! A regular file, whole or a range of it, for `/log` and `/serve`.

use std::io::{Seek as _, SeekFrom};

use hyper::header::{ETAG, HeaderValue};
use hyper::{Method, StatusCode};

use crate::fairness::Permit;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::request::conditional::matches_if_none_match;
use crate::http::request::context::RequestCx;
use crate::http::request::range::{Selection, applicable_range, resolve};
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::file_body::FileBody;
use crate::http::response::headers::{new_response, set, set_content_length};
use crate::http::response::partial::{partial_content, range_not_satisfiable};
use crate::http::response::status::not_modified;
use crate::store::{RegularFile, StoreError};

/// Answers with a file that `tag` identifies, a range of it, 304 or 416. The caller sets the media type; `permit` is held
/// until the body is dropped.
pub(crate) fn respond(
    app: &App,
    cx: RequestCx<'_>,
    file: RegularFile,
    tag: HeaderValue,
    cache_control: CacheControl,
    permit: Permit,
) -> Result<Response, HandlerError> {
    if matches_if_none_match(cx.headers(), &tag) {
        return Ok(not_modified(cache_control, tag));
    }
    let size = file.size();
    let range = applicable_range(cx.headers(), &tag).filter(|_| cx.parts.method == Method::GET);
    let mut response = match resolve(range, size) {
        Selection::Unsatisfiable => return Ok(range_not_satisfiable(size)),
        Selection::Range(range) => {
            partial_content(&range, cache_control, body(app, file, range.first(), range.len(), permit)?)
        }
        Selection::Whole => {
            let body = if cx.is_head() { Body::empty() } else { body(app, file, 0, size, permit)? };
            let mut response = new_response(StatusCode::OK, cache_control, body);
            set_content_length(&mut response, size);
            response
        }
    };
    set(&mut response, ETAG, tag);
    Ok(response)
}

fn body(app: &App, file: RegularFile, first: u64, length: u64, permit: Permit) -> Result<Body, HandlerError> {
    let path = file.path().to_owned();
    let mut file = file.into_file();
    file.seek(SeekFrom::Start(first)).map_err(|cause| StoreError::file(&path, &cause))?;
    let reads = app.io_limits.reads().clone();
    Ok(Body::File(Box::new(FileBody::new(file, path, Some(length), reads, vec![permit]))))
}
