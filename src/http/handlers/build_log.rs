//! `/log/…`: the log of a build, as text.
//!
//! Nix stores logs compressed, but not all clients decode that (bzip2 as `Content-Encoding` fails since 2.34), so logs are
//! sent decompressed.

use std::io::{self, Seek as _};
use std::sync::Arc;

use harmonia_protocol::HashPart;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};

use crate::fairness::Permit;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::handlers::regular_file;
use crate::http::request::conditional::matches_if_none_match;
use crate::http::request::context::RequestCx;
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::etag::etag;
use crate::http::response::file_body::FileBody;
use crate::http::response::headers::{PLAIN_TEXT, new_response, set, set_content_length, set_nosniff};
use crate::http::response::status::not_modified;
use crate::store::{BuildLog, LogCompression, RegularFile, StoreError};

/// Answers with the log of the derivation with this hash part, or of the build of the output with it.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, hash: HashPart) -> Result<Response, HandlerError> {
    if !app.sees_log(hash, cx).await? {
        return Err(NotFound::NoLog.into());
    }
    let permit = app.io_limits.open_file(cx.client).await;
    let BuildLog { file, form } = match app.store.build_log(hash, cx.client).await {
        Ok(Some(log)) => log,
        missing => {
            drop(permit);
            let why = missing.err().map_or(NotFound::NoLog.into(), HandlerError::from);
            return app.log_in_bucket(hash, cx, why).await;
        }
    };
    let mut response = match form {
        LogCompression::Plain => {
            let tag = etag(file.version());
            regular_file::respond(app, cx, file, tag, CacheControl::Revalidate, permit)?
        }
        form => decoded(app, cx, file, form, permit).await?,
    };
    if response.status().is_success() {
        set(&mut response, CONTENT_TYPE, HeaderValue::from_static(PLAIN_TEXT));
    }
    set_nosniff(&mut response);
    Ok(response)
}

/// Answers with the text of a compressed log. Its length is unknown, so there are no ranges; for a client that needs a
/// `Content-Length` the text is decoded twice.
async fn decoded(
    app: &App,
    cx: RequestCx<'_>,
    file: RegularFile,
    form: LogCompression,
    permit: Permit,
) -> Result<Response, HandlerError> {
    let tag = etag(&format!("{}-text", file.version()));
    if matches_if_none_match(cx.headers(), &tag) {
        return Ok(not_modified(CacheControl::Revalidate, tag));
    }
    let mut response = new_response(StatusCode::OK, CacheControl::Revalidate, Body::empty());
    set(&mut response, ETAG, tag);
    if cx.is_head() {
        return Ok(response);
    }
    let permits = vec![permit, app.io_limits.large_body(cx.client).await];
    let (path, mut file) = (file.path().to_owned(), file.into_file());
    let failed = |cause| StoreError::file(&path, &cause);
    if cx.needs_content_length() {
        // The semaphore is never closed.
        let permit = Arc::clone(app.io_limits.reads()).acquire_owned().await;
        let counted = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let length = io::copy(&mut form.decoder(file.try_clone()?)?, &mut io::sink())?;
            file.rewind()?;
            Ok((file, length))
        });
        let length;
        (file, length) = counted.await.map_err(io::Error::other).and_then(|counted| counted).map_err(failed)?;
        set_content_length(&mut response, length);
    }
    let text = form.decoder(file).map_err(failed)?;
    let body = FileBody::new(text, path, None, Arc::clone(app.io_limits.reads()), permits);
    Ok(response.map(|_| Body::File(Box::new(body))))
}
