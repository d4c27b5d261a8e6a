//! `/log/…`: the log of a build, as text.
//!
//! Nix stores logs compressed and its clients do not all decode them (bzip2 as a coding fails from 2.34 on), so what
//! leaves here is the text itself.

use bzip2::read::MultiBzDecoder;
use harmonia_protocol::HashPart;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use super::super::App;
use super::super::body::Body;
use super::super::error::HandlerError;
use super::super::file_body::FileBody;
use super::super::response::{Keep, Reply, etag, is_held, not_modified, refusal, reply, set, set_nosniff};
use super::file;
use crate::client::Client;
use crate::fairness::Permit;
use crate::store::{BuildLog, LogForm, RegularFile, StoreError};

/// The largest window of a zstd frame, 8 MiB: what levels up to 19 use, and what a client may have to spend on one.
const MAX_WINDOW_LOG: u32 = 23;

/// Answers a request for the log of the derivation, or of the build of the output, with this hash part.
pub(in crate::http) async fn respond(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    hash: HashPart,
    client: Client,
) -> Result<Reply, HandlerError> {
    let slot = app.files.open(client).await;
    let Some(BuildLog { file, form }) = app.store.build_log(hash, client).await? else {
        return Ok(refusal(StatusCode::NOT_FOUND));
    };
    let mut reply = match form {
        LogForm::Plain => {
            let tag = etag(file.version());
            file::respond(app, method, headers, file, tag, Keep::WhileCurrent, slot)?
        }
        form => decoded(app, method, headers, file, form, (slot, client)).await?,
    };
    if reply.status().is_success() {
        set(&mut reply, CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    set_nosniff(&mut reply);
    Ok(reply)
}

/// The text of a compressed log: its length is not known before its end, so there are no ranges of it.
async fn decoded(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    file: RegularFile,
    form: LogForm,
    (slot, client): (Permit, Client),
) -> Result<Reply, HandlerError> {
    let tag = etag(&format!("{}-text", file.version()));
    if is_held(headers, &tag) {
        return Ok(not_modified(Keep::WhileCurrent, tag));
    }
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        Body::File(Box::new(decode(app, file, form, vec![slot, app.files.large(client).await])?))
    };
    let mut reply = reply(StatusCode::OK, Keep::WhileCurrent, body);
    set(&mut reply, ETAG, tag);
    Ok(reply)
}

fn decode(app: &App, file: RegularFile, form: LogForm, slots: Vec<Permit>) -> Result<FileBody, StoreError> {
    let path = file.path().to_owned();
    let failed = |cause| StoreError::file(&path, &cause);
    let reads = app.files.reads().clone();
    Ok(match form {
        LogForm::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(file.into_file()).map_err(failed)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(failed)?;
            FileBody::new(decoder, path, None, reads, slots)
        }
        LogForm::Plain | LogForm::Bzip2 => {
            FileBody::new(MultiBzDecoder::new(file.into_file()), path, None, reads, slots)
        }
    })
}
