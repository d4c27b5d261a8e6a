//! A file as it lies there, whole or in part: what `/log` and `/serve` have in common.

use std::io::{self, Seek as _, SeekFrom};

use hyper::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, RANGE};
use hyper::{Method, StatusCode};

use super::super::App;
use super::super::body::Body;
use super::super::error::HandlerError;
use super::super::file_body::FileBody;
use super::super::range::{Requested, honoured, requested};
use super::super::response::{Keep, Reply, is_held, not_modified, reply, set, set_length, unsatisfiable};
use crate::fairness::Permit;
use crate::store::{RegularFile, StoreError};

/// Answers with a file whose bytes `tag` names, or with what the conditions and the range of the request ask instead.
/// The caller adds the type. `slot` is kept until the body is gone.
pub(super) fn respond(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    file: RegularFile,
    tag: HeaderValue,
    keep: Keep,
    slot: Permit,
) -> Result<Reply, HandlerError> {
    if is_held(headers, &tag) {
        return Ok(not_modified(keep, tag));
    }
    let size = file.size();
    let range = if *method == Method::GET && headers.contains_key(RANGE) { honoured(headers, &tag) } else { None };
    let (first, length, content_range) = match requested(range, size) {
        Requested::Unsatisfiable => return Ok(unsatisfiable(size)),
        Requested::Whole => (0, size, None),
        Requested::Part(part) => (part.first(), part.len(), HeaderValue::from_str(&part.content_range()).ok()),
    };
    let body = if *method == Method::HEAD { Body::empty() } else { body(app, file, first, length, slot)? };
    let status = if content_range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut reply = reply(status, keep, body);
    if let Some(range) = content_range {
        set(&mut reply, CONTENT_RANGE, range);
    }
    set(&mut reply, ETAG, tag);
    set_length(&mut reply, length);
    Ok(reply)
}

fn body(app: &App, file: RegularFile, first: u64, length: u64, slot: Permit) -> Result<Body, HandlerError> {
    let path = file.path().to_owned();
    let mut file = file.into_file();
    let found = file.seek(SeekFrom::Start(first));
    found.map_err(|cause: io::Error| StoreError::file(&path, &cause))?;
    Ok(Body::File(Box::new(FileBody::new(file, path, Some(length), app.files.reads().clone(), vec![slot]))))
}
