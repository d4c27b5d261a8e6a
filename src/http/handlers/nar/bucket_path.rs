//! NARs of paths that the store does not have and another host has published, by the URLs that hosts give to NARs of their own.
//!
//! A client that was told of such a URL by one host may ask another. And Nix before 2.4, which knows no zstd, is told of the URL of
//! the NAR for each path of the bucket: the NAR is decoded from its file, and proven, while it is sent.

use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::narinfo::Compression;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};

use super::bucket_file::Wanted;
use super::compressed_body::{complete, not_resumable, resumable};
use super::lookup::NAR_TYPE;
use crate::bucket::{Bucket, BucketNarInfo};
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::conditional::matches_if_none_match;
use crate::http::request::context::RequestCx;
use crate::http::request::range::{Selection, applicable_range, resolve};
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::etag::nar_etag;
use crate::http::response::headers::{new_response, set, set_content_length};
use crate::http::response::partial::{partial_content, range_not_satisfiable};
use crate::http::response::status::{not_modified, redirect};
use crate::http::response::stream_body::StreamBody;
use crate::nar_cache::{FileSource, FillError, NarCache, VerifiedStream};
use crate::store::ValidPath;

/// Answers with the NAR of a path that the store has failed with this error to serve.
pub(super) async fn plain(
    app: &App,
    cx: RequestCx<'_>,
    hash: HashPart,
    nar_hash: Option<NarHash>,
    why: HandlerError,
) -> Result<Response, HandlerError> {
    let (bucket, narinfo) = find(app, cx, hash, nar_hash, why).await?;
    let (nar_hash, size) = (narinfo.nar_hash(), narinfo.nar_size());
    let tag = nar_etag(hash, &nar_hash.to_nix32(), None);
    if matches_if_none_match(cx.headers(), &tag) {
        return Ok(not_modified(CacheControl::Immutable, tag));
    }
    let range = match resolve(applicable_range(cx.headers(), &tag).filter(|_| !cx.is_head()), size) {
        Selection::Whole => None,
        Selection::Range(range) => Some(range),
        Selection::Unsatisfiable => return Ok(range_not_satisfiable(size)),
    };
    let mut response = if cx.is_head() {
        new_response(StatusCode::OK, CacheControl::Immutable, Body::empty())
    } else {
        let bounds = range.map_or(0..size, |range| range.bounds());
        let length = bounds.end - bounds.start;
        let permits =
            vec![app.io_limits.bucket_file(cx.client).await, app.io_limits.nar_decoder(cx.client, size).await];
        let file = open(app, cx, &Wanted::of_path(bucket, Arc::clone(&narinfo)), narinfo.file_size()).await?;
        let nar: Box<dyn FileSource> = match narinfo.file().compression() {
            Compression::Zstd => {
                let nar = VerifiedStream::zstd_nar(file, &nar_hash, size, &bounds);
                Box::new(nar.map_err(|cause| FillError::fetch(&cause))?)
            }
            Compression::None => Box::new(VerifiedStream::nar(file, &nar_hash, size, &bounds)),
            // Files that Nix has uploaded itself have URLs of their own.
            _ => return Err(NotFound::NoCompressedNar.into()),
        };
        let body = Body::Stream(Box::new(StreamBody::new(nar, length, permits)));
        match range {
            Some(range) => partial_content(&range, CacheControl::Immutable, body),
            None => new_response(StatusCode::OK, CacheControl::Immutable, body),
        }
    };
    if range.is_none() {
        set_content_length(&mut response, size);
    }
    set(&mut response, CONTENT_TYPE, NAR_TYPE);
    set(&mut response, ETAG, tag);
    Ok(response)
}

/// Answers with the compressed NAR of a path as it is in the bucket, for a client that has no bytes of it yet and asks for an encoding
/// that may be another one.
pub(super) async fn compressed(
    app: &App,
    cx: RequestCx<'_>,
    bucket: &Arc<Bucket>,
    narinfo: Arc<BucketNarInfo>,
) -> Result<Response, HandlerError> {
    if narinfo.file().compression() != Compression::Zstd {
        return Err(NotFound::NoCompressedNar.into());
    }
    let (name, size) = (narinfo.file(), narinfo.file_size());
    let file = Wanted::of_path(bucket, narinfo);
    if cx.is_head() {
        return Ok(not_resumable(new_response(StatusCode::OK, CacheControl::NoStore, Body::empty())));
    }
    let mut nar = file.find(app).await;
    if nar.is_none() {
        if let Some(url) = bucket.redirect(name, size).await {
            return Ok(redirect(StatusCode::TEMPORARY_REDIRECT, CacheControl::NoStore, &url));
        }
        nar = file.fetch(app, size, cx.client).await?;
    }
    if let Some(nar) = nar {
        return Ok(not_resumable(complete(cx, CacheControl::NoStore, Ok(nar)).await?));
    }
    let permits = vec![app.io_limits.bucket_file(cx.client).await];
    let body = StreamBody::new(file.stream(size, 0..size).await?, size, permits);
    let mut response = new_response(StatusCode::OK, CacheControl::NoStore, Body::Stream(Box::new(body)));
    set_content_length(&mut response, size);
    Ok(not_resumable(response))
}

/// Answers with the rest of the compressed NAR that a client has from another host, which has the same encoder as this one: the NAR
/// is compressed again, to the same bytes. The file in the bucket may have others.
pub(super) async fn compressed_again(
    app: &App,
    cx: RequestCx<'_>,
    bucket: &Arc<Bucket>,
    narinfo: &Arc<BucketNarInfo>,
    (cache, etag): (&Arc<NarCache>, &HeaderValue),
) -> Result<Response, HandlerError> {
    if narinfo.file().compression() != Compression::Zstd {
        return Err(NotFound::NoCompressedNar.into());
    }
    let path = Arc::new(ValidPath::new(narinfo.path().clone(), &narinfo.path_info()));
    let memory = app.io_limits.nar_decoder(cx.client, narinfo.nar_size()).await;
    let file = open(app, cx, &Wanted::of_path(bucket, Arc::clone(narinfo)), narinfo.file_size()).await?;
    let nar = VerifiedStream::zstd_nar(file, &narinfo.nar_hash(), narinfo.nar_size(), &(0..narinfo.nar_size()));
    let nar = nar.map_err(|cause| FillError::fetch(&cause))?;
    let opened = Box::pin(async move { Ok((nar, memory)) });
    let mut response = resumable(cx, etag, cache.get_or_fill_with(&path, cx.client, opened).await).await?;
    if response.status().is_success() {
        set(&mut response, CONTENT_TYPE, NAR_TYPE);
        set(&mut response, ETAG, etag.clone());
    }
    Ok(response)
}

/// Returns the narinfo of a path of the bucket that has this NAR, if the URL names one.
pub(super) async fn find<'a>(
    app: &'a App,
    cx: RequestCx<'_>,
    hash: HashPart,
    nar_hash: Option<NarHash>,
    why: HandlerError,
) -> Result<(&'a Arc<Bucket>, Arc<BucketNarInfo>), HandlerError> {
    let Some(bucket) = &app.bucket else { return Err(why) };
    // The path was built here with other contents than what was published.
    let is_other = matches!(why, HandlerError::NotFound(NotFound::NarHashMismatch));
    let asked = if is_other { NotFound::NotValid.into() } else { why };
    let narinfo = match app.path_in_bucket(hash, cx, asked).await {
        Err(HandlerError::NotFound(NotFound::NotValid)) if is_other => Err(NotFound::NarHashMismatch.into()),
        found => found,
    }?;
    if nar_hash.is_some_and(|nar_hash| nar_hash != narinfo.nar_hash()) {
        return Err(NotFound::NarHashMismatch.into());
    }
    Ok((bucket, narinfo))
}

/// Opens the file of a path at its first byte.
async fn open(app: &App, cx: RequestCx<'_>, file: &Wanted<'_>, size: u64) -> Result<Box<dyn FileSource>, HandlerError> {
    let nar = match file.find(app).await {
        Some(nar) => Some(nar),
        None => file.fetch(app, size, cx.client).await?,
    };
    match nar {
        Some(nar) => Ok(Box::new(nar.open(None).await?)),
        // The NAR is proven, and with it the file.
        None => file.stream(size, 0..size).await,
    }
}
