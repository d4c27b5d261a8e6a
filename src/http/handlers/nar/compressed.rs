//! `/nar/<encoding>/….nar.zst`: the compressed NAR of a path, whole or from where a download broke off.
//!
//! The bytes under such a URL never change, so a client resumes it by `Range`, on another connection, after a restart, or
//! from another machine. Where that cannot be guaranteed, because the URL names no encoding or one that this release does
//! not produce, the response says that it cannot be resumed.

use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;
use hyper::header::{CONTENT_TYPE, ETAG, RANGE};
use hyper::{Method, StatusCode};

use super::bucket_path;
use super::compressed_body::{complete, not_resumable, resumable};
use super::lookup::{NAR_TYPE, lookup};
use super::plain;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::conditional::matches_if_none_match;
use crate::http::request::context::RequestCx;
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::etag::nar_etag;
use crate::http::response::headers::{new_response, set, set_content_length};
use crate::http::response::raw_zstd::{self, RawZstd};
use crate::http::response::status::not_modified;
use crate::nar_cache::{CompressedNar, EncodingTag, FillError, NarCache};
use crate::store::ValidPath;

/// Answers with the NAR `nar_hash` of the path with this hash part in the encoding `tag`, or in any.
pub(crate) async fn respond(
    app: &App,
    cx: RequestCx<'_>,
    hash: HashPart,
    nar_hash: NarHash,
    tag: Option<&EncodingTag>,
) -> Result<Response, HandlerError> {
    let is_resumed = cx.headers().contains_key(RANGE) && cx.parts.method == Method::GET;
    let valid = match lookup(app, hash, Some(nar_hash), cx).await {
        Err(why) if app.bucket.is_some() => {
            match Box::pin(bucket_path::find(app, cx, hash, Some(nar_hash), why)).await {
                Ok((bucket, narinfo)) if !is_resumed => {
                    return Box::pin(bucket_path::compressed(app, cx, bucket, narinfo)).await;
                }
                Ok((bucket, narinfo)) => match app.nar_cache.as_ref().filter(|cache| Some(cache.tag()) == tag) {
                    Some(cache) => {
                        let etag = nar_etag(hash, &nar_hash.to_nix32(), Some(cache.tag().as_str()));
                        let again = bucket_path::compressed_again(app, cx, bucket, &narinfo, (cache, &etag));
                        return Box::pin(again).await;
                    }
                    // The bytes that the client has are those of another encoder.
                    None => Err(NotFound::NoCompressedNar.into()),
                },
                Err(why) => Err(why),
            }
        }
        valid => valid,
    };
    let Some(tag) = tag else {
        let valid = valid?;
        return if is_resumed { Err(NotFound::NoCompressedNar.into()) } else { in_any_encoding(app, cx, &valid).await };
    };
    let valid = match valid {
        Ok(valid) => Ok(valid),
        Err(HandlerError::NotFound(why)) => Err(why),
        Err(error) => return Err(error),
    };
    let etag = nar_etag(hash, &nar_hash.to_nix32(), Some(tag.as_str()));
    let current = app.nar_cache.as_ref().filter(|cache| tag == cache.tag());
    let mut response = match (valid, current) {
        (Ok(_), _) if matches_if_none_match(cx.headers(), &etag) => {
            return Ok(not_modified(CacheControl::Immutable, etag));
        }
        (Ok(valid), Some(cache)) if cx.is_head() => head(&valid, cache),
        (Ok(valid), Some(cache)) => match resumable(cx, &etag, cache.get_or_fill(&valid, cx.client).await).await {
            Err(error @ FillError::Store(_)) => return Err(error.into()),
            // The client can retry. Other bytes would not continue those that it has.
            Err(error) if is_resumed => return Err(error.into()),
            Err(error) => {
                tracing::debug!("sending the NAR uncompressed in a zstd file: {error}");
                return raw_zstd(app, &valid, cx).await;
            }
            Ok(response) => response,
        },
        (Ok(valid), None) => match from_cache(app, tag, &nar_hash).await {
            Some(nar) => resumable(cx, &etag, Ok(nar)).await?,
            // The bytes that the client has are those of an encoder that is not here.
            None if is_resumed => return Err(NotFound::NoCompressedNar.into()),
            None => return in_any_encoding(app, cx, &valid).await,
        },
        // A download that has begun may be completed after its path is deleted, unless it may be a hidden path. Nobody knows
        // whether a NAR without its path is in a view.
        (Err(why), _) => {
            let may_serve = is_resumed
                && !app.signer.load().hides_untrusted()
                && !app.store.has_hidden()
                && app.known_sight(cx).is_unlimited();
            let nar = if may_serve { from_cache(app, tag, &nar_hash).await } else { None };
            resumable(cx, &etag, Ok(nar.ok_or(why)?)).await?
        }
    };
    if response.status().is_success() {
        set(&mut response, CONTENT_TYPE, NAR_TYPE);
        set(&mut response, ETAG, etag);
    }
    Ok(response)
}

async fn from_cache(app: &App, tag: &EncodingTag, nar_hash: &NarHash) -> Option<CompressedNar> {
    app.nar_cache.as_ref()?.find_existing(tag, nar_hash).await
}

fn head(valid: &ValidPath, cache: &NarCache) -> Response {
    let mut response = new_response(StatusCode::OK, CacheControl::Immutable, Body::empty());
    if let Some(info) = cache.file_info(&valid.info.nar_hash) {
        set_content_length(&mut response, info.size);
    }
    response
}

/// Answers with the NAR as this release compresses it, for a client that has no bytes of it yet.
///
/// Other releases send other bytes under this URL, so it must not be cached nor resumed: a client whose download breaks off
/// has to start again, which is better than bytes that do not fit together.
async fn in_any_encoding(app: &App, cx: RequestCx<'_>, valid: &Arc<ValidPath>) -> Result<Response, HandlerError> {
    if cx.is_head() {
        return Ok(not_resumable(new_response(StatusCode::OK, CacheControl::NoStore, Body::empty())));
    }
    let Some(cache) = &app.nar_cache else { return raw_zstd(app, valid, cx).await };
    match complete(cx, CacheControl::NoStore, cache.get_or_fill(valid, cx.client).await).await {
        Ok(response) => Ok(not_resumable(response)),
        Err(error @ FillError::Store(_)) => Err(error.into()),
        Err(_) => raw_zstd(app, valid, cx).await,
    }
}

/// Answers with the NAR in a zstd file that does not compress it, for a URL that promises one while the NAR cache is off or
/// fails.
async fn raw_zstd(app: &App, valid: &Arc<ValidPath>, cx: RequestCx<'_>) -> Result<Response, HandlerError> {
    let (nar, size) = (plain::open_all(app, valid, cx.client).await?, valid.info.nar_size);
    let body = Body::Raw(Box::new(RawZstd::new(nar, size)));
    let mut response = new_response(StatusCode::OK, CacheControl::NoStore, body);
    set_content_length(&mut response, raw_zstd::length(size));
    Ok(not_resumable(response))
}
