//! `/nar/<encoding>/….nar.zst`: the compressed form of a path's NAR, whole or from where a download broke off.
//!
//! The bytes under such a URL never change, so a client resumes it by `Range`, on another connection, after a restart, or
//! from another machine. Where that cannot be kept, because the URL names no encoder or one that is not here any more,
//! nobody is told that it can be resumed.

use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use super::super::App;
use super::super::body::Body;
use super::super::error::HandlerError;
use super::super::range::{Requested, honoured, requested};
use super::super::reason::NotFound;
use super::super::response::{Keep, Reply, is_held, nar_etag, not_modified, reply, set, set_length, unsatisfiable};
use super::super::stored_zstd::{self, StoredZstd};
use super::nar;
use crate::fairness::ClientId;
use crate::nar_cache::{CompressedNar, EncodingTag, FillError, NarCache};
use crate::store::ValidPath;

/// Answers a request for this encoding, or any, of the NAR `nar_hash` of the path with this hash part.
pub(in crate::http) async fn respond(
    app: &App,
    request: &Parts,
    hash: HashPart,
    nar_hash: NarHash,
    tag: Option<&EncodingTag>,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    let valid = nar::current(app, hash, Some(nar_hash), client).await;
    let is_resumed = request.headers.contains_key(RANGE) && request.method == Method::GET;
    let Some(tag) = tag else {
        let valid = valid?;
        return if is_resumed {
            Err(NotFound::NoCompressedNar.into())
        } else {
            in_any_encoding(app, request, &valid, client).await
        };
    };
    let valid = match valid {
        Ok(valid) => Ok(valid),
        Err(HandlerError::NotFound(why)) => Err(why),
        Err(error) => return Err(error),
    };
    let etag = nar_etag(hash, &nar_hash.to_nix32(), Some(tag.as_str()));
    let ours = app.nars.as_ref().filter(|nars| tag == nars.tag());
    let mut reply = match (valid, ours) {
        (Ok(_), _) if is_held(&request.headers, &etag) => return Ok(not_modified(Keep::Forever, etag)),
        (Ok(valid), Some(nars)) if request.method == Method::HEAD => head(&valid, nars),
        (Ok(valid), Some(nars)) => match resumable(request, &etag, nars.get_or_fill(&valid, client).await).await {
            Err(error @ FillError::Store(_)) => return Err(error.into()),
            // It can be had another time. Only whoever has nothing of it yet can be given something else.
            Err(error) if is_resumed => return Err(error.into()),
            Err(error) => {
                tracing::debug!("not sent compressed: {error}");
                return stored(app, &valid, client).await;
            }
            Ok(reply) => reply,
        },
        (Ok(valid), None) => match kept(app, tag, &nar_hash).await {
            Some(kept) => resumable(request, &etag, Ok(kept)).await?,
            // Whose first bytes the client has cannot be known.
            None if is_resumed => return Err(NotFound::NoCompressedNar.into()),
            None => return in_any_encoding(app, request, &valid, client).await,
        },
        // A download that has begun may end, unless it might be of a path that is not given out.
        (Err(why), _) => {
            let kept = kept(app, tag, &nar_hash).await.filter(|_| is_resumed && !app.signer.load().hides_untrusted());
            resumable(request, &etag, Ok(kept.ok_or(why)?)).await?
        }
    };
    if reply.status().is_success() {
        set(&mut reply, CONTENT_TYPE, nar::TYPE);
        set(&mut reply, ETAG, etag);
    }
    Ok(reply)
}

async fn kept(app: &App, tag: &EncodingTag, nar_hash: &NarHash) -> Option<CompressedNar> {
    app.nars.as_ref()?.find_existing(tag, nar_hash).await
}

fn head(valid: &ValidPath, nars: &NarCache) -> Reply {
    let mut reply = reply(StatusCode::OK, Keep::Forever, Body::empty());
    if let Some(info) = nars.file_info(&valid.info.nar_hash) {
        set_length(&mut reply, info.size);
    }
    reply
}

/// A compressed NAR, or why there is none.
type Compressed = Result<CompressedNar, FillError>;

/// All of it, or the range that is asked for.
async fn resumable(request: &Parts, etag: &HeaderValue, nar: Compressed) -> Result<Reply, FillError> {
    let mut nar = nar?;
    if let Some(range) = honoured(&request.headers, etag) {
        let total = nar.length().await?;
        match requested(Some(range), total) {
            Requested::Part(part) => {
                let bytes = nar.open(Some(part.first()..part.first() + part.len())).await?;
                let mut reply = reply(StatusCode::PARTIAL_CONTENT, Keep::Forever, Body::Compressed(Box::new(bytes)));
                if let Ok(range) = HeaderValue::from_str(&part.content_range()) {
                    set(&mut reply, CONTENT_RANGE, range);
                }
                set_length(&mut reply, part.len());
                return Ok(reply);
            }
            Requested::Unsatisfiable => return Ok(unsatisfiable(total)),
            Requested::Whole => {}
        }
    }
    whole(request, Keep::Forever, Ok(nar)).await
}

/// All of it, with its length where that is known. HTTP/1.0, nginx's default to its upstreams, has no other way to tell the
/// end from a broken connection, so there it is waited for.
pub(super) async fn whole(request: &Parts, keep: Keep, nar: Compressed) -> Result<Reply, FillError> {
    let mut nar = nar?;
    let range = if request.version <= Version::HTTP_10 { Some(0..nar.length().await?) } else { None };
    let bytes = nar.open(range).await?;
    let length = bytes.remaining();
    let mut reply = reply(StatusCode::OK, keep, Body::Compressed(Box::new(bytes)));
    if let Some(length) = length {
        set_length(&mut reply, length);
    }
    Ok(reply)
}

/// The NAR as this release compresses it, for a client that has nothing of it yet. Other releases answer other bytes
/// under this URL, so nobody may keep these or ask for a part of them: a client that gets them broken off has to give the
/// download up, which is better than bytes that do not fit together.
async fn in_any_encoding(
    app: &App,
    request: &Parts,
    valid: &Arc<ValidPath>,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    if request.method == Method::HEAD {
        return Ok(for_one_client(reply(StatusCode::OK, Keep::Not, Body::empty())));
    }
    let compressed = match &app.nars {
        Some(nars) => whole(request, Keep::Not, nars.get_or_fill(valid, client).await).await,
        None => return stored(app, valid, client).await,
    };
    match compressed {
        Ok(reply) => Ok(for_one_client(reply)),
        Err(error @ FillError::Store(_)) => Err(error.into()),
        Err(_) => stored(app, valid, client).await,
    }
}

/// The NAR in the form of a compressed one, where there is none and the URL promises one.
async fn stored(app: &App, valid: &Arc<ValidPath>, client: ClientId) -> Result<Reply, HandlerError> {
    let (nar, size) = (nar::whole_body(app, valid, client).await?, valid.info.nar_size);
    let mut reply = reply(StatusCode::OK, Keep::Not, Body::Stored(Box::new(StoredZstd::new(nar, size))));
    set_length(&mut reply, stored_zstd::length(size));
    Ok(for_one_client(reply))
}

/// Other answers under this URL have other bytes.
fn for_one_client(mut reply: Reply) -> Reply {
    set(&mut reply, ACCEPT_RANGES, HeaderValue::from_static("none"));
    set(&mut reply, CONTENT_TYPE, nar::TYPE);
    reply
}
