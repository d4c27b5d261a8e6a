//! `/log/…`: the log of a build, as text.
//!
//! Nix stores logs compressed and its clients do not all decode them (bzip2 as a coding fails from 2.34 on), so what
//! leaves here is the text itself.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::sync::Arc;

use bzip2::read::MultiBzDecoder;
use harmonia_protocol::HashPart;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use super::super::App;
use super::super::body::Body;
use super::super::error::HandlerError;
use super::super::file_body::FileBody;
use super::super::reason::NotFound;
use super::super::response::{Keep, Reply, etag, is_held, not_modified, reply, set, set_length, set_nosniff};
use super::file;
use crate::fairness::ClientId;
use crate::fairness::Permit;
use crate::store::{BuildLog, LogCompression, RegularFile, StoreError};

/// The largest window of a zstd frame, 8 MiB: what levels up to 19 use, and what a client may have to spend on one.
const MAX_WINDOW_LOG: u32 = 23;

/// Answers a request for the log of the derivation, or of the build of the output, with this hash part.
pub(in crate::http) async fn respond(
    app: &App,
    request: &Parts,
    hash: HashPart,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    let slot = app.files.open(client).await;
    let BuildLog { file, form } = app.store.build_log(hash, client).await?.ok_or(NotFound::NoLog)?;
    let mut reply = match form {
        LogCompression::Plain => {
            let tag = etag(file.version());
            file::respond(app, &request.method, &request.headers, file, tag, Keep::WhileCurrent, slot)?
        }
        form => decoded(app, request, file, form, (slot, client)).await?,
    };
    if reply.status().is_success() {
        set(&mut reply, CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    set_nosniff(&mut reply);
    Ok(reply)
}

/// The text of a compressed log: its length is not known before its end, so there are no ranges of it. HTTP/1.0 has no other
/// way to tell that from a broken connection, so for it the text is decoded twice.
async fn decoded(
    app: &App,
    request: &Parts,
    file: RegularFile,
    form: LogCompression,
    (slot, client): (Permit, ClientId),
) -> Result<Reply, HandlerError> {
    let tag = etag(&format!("{}-text", file.version()));
    if is_held(&request.headers, &tag) {
        return Ok(not_modified(Keep::WhileCurrent, tag));
    }
    let mut reply = reply(StatusCode::OK, Keep::WhileCurrent, Body::empty());
    set(&mut reply, ETAG, tag);
    if request.method == Method::HEAD {
        return Ok(reply);
    }
    let slots = vec![slot, app.files.large(client).await];
    let (path, mut file) = (file.path().to_owned(), file.into_file());
    let failed = |cause| StoreError::file(&path, &cause);
    if request.version <= Version::HTTP_10 {
        // It is never closed.
        let permit = Arc::clone(app.files.reads()).acquire_owned().await;
        let counted = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let length = io::copy(&mut decoder(file.try_clone()?, form)?, &mut io::sink())?;
            file.rewind()?;
            Ok((file, length))
        });
        let length;
        (file, length) = counted.await.map_err(io::Error::other).and_then(|counted| counted).map_err(failed)?;
        set_length(&mut reply, length);
    }
    let text = decoder(file, form).map_err(failed)?;
    let body = FileBody::new(text, path, None, Arc::clone(app.files.reads()), slots);
    Ok(reply.map(|_| Body::File(Box::new(body))))
}

fn decoder(file: File, form: LogCompression) -> io::Result<Box<dyn Read + Send>> {
    Ok(match form {
        LogCompression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(file)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(decoder)
        }
        LogCompression::Plain | LogCompression::Bzip2 => Box::new(MultiBzDecoder::new(file)),
    })
}
