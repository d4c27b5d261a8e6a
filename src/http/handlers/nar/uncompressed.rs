//! `/nar/….nar`: selects the representation of a NAR and answers with it.

use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, RANGE};
use hyper::{Method, StatusCode};

use super::bucket_path;
use super::compressed_body::complete;
use super::lookup::{NAR_TYPE, lookup};
use super::plain;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::request::accept_encoding::{ContentCoding, negotiate};
use crate::http::request::conditional::matches_if_none_match;
use crate::http::request::context::RequestCx;
use crate::http::request::range::{ByteRange, Selection, applicable_range, resolve};
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::compress::MAX_WINDOW_LOG;
use crate::http::response::etag::nar_etag;
use crate::http::response::headers::{new_response, set, set_content_encoding, set_content_length, set_vary};
use crate::http::response::partial::{partial_content, range_not_satisfiable};
use crate::http::response::status::not_modified;
use crate::nar_cache::FillError;
use crate::store::ValidPath;

/// Answers with the NAR `nar_hash` of the path with this hash part; or with the NAR that the path has now, if the URL names
/// none: the bytes under such a URL may change, so it must not be cached.
pub(crate) async fn respond(
    app: &App,
    cx: RequestCx<'_>,
    hash: HashPart,
    nar_hash: Option<NarHash>,
) -> Result<Response, HandlerError> {
    let cache_control = if nar_hash.is_some() { CacheControl::Immutable } else { CacheControl::NoStore };
    let valid = match lookup(app, hash, nar_hash, cx).await {
        Ok(valid) => valid,
        Err(why) if app.bucket.is_some() => return Box::pin(bucket_path::plain(app, cx, hash, nar_hash, why)).await,
        Err(why) => return Err(why),
    };
    let Selected { representation, tag } = Selected::new(app, cx, &valid);
    let size = valid.info.nar_size;
    let mut response = match representation {
        _ if matches_if_none_match(cx.headers(), &tag) => not_modified(cache_control, tag.clone()),
        Representation::Unsatisfiable => range_not_satisfiable(size),
        Representation::Whole(coding) if cx.is_head() => head(app, cache_control, coding, &valid),
        Representation::Whole(coding) => whole(app, cx, cache_control, &valid, coding).await?,
        Representation::Range(range) => {
            let body = plain::open(app, &valid, range.first(), range.len(), cx.client).await?;
            partial_content(&range, cache_control, body)
        }
    };
    if response.status().is_success() {
        let tag = response.headers_mut().remove(ETAG).unwrap_or(tag);
        set(&mut response, CONTENT_TYPE, NAR_TYPE);
        set(&mut response, ETAG, tag);
    }
    if app.compressor.is_some() {
        set_vary(&mut response, "accept-encoding");
    }
    Ok(response)
}

/// Bytes that a request is answered with.
enum Representation {
    Whole(ContentCoding),
    Range(ByteRange),
    Unsatisfiable,
}

/// A representation and its entity tag.
struct Selected {
    representation: Representation,
    tag: HeaderValue,
}

impl Selected {
    /// Selects the representation for a request.
    ///
    /// A GET with a `Range`, even an invalid one, never gets a `Content-Encoding`: it is from a client that resumes the
    /// plain bytes, and Nix 2.14 to 2.33 send `Accept-Encoding` along. A `Range` in a HEAD has no meaning (RFC 9110,
    /// section 14.2). A client that needs a `Content-Length` gets the plain bytes: the length of the encoded ones may be
    /// unknown. So does one for a NAR that needs a larger window than a content coding may have.
    fn new(app: &App, cx: RequestCx<'_>, valid: &ValidPath) -> Self {
        let headers = cx.headers();
        let (hash, nar_hash) = (valid.path.hash_part(), valid.info.nar_hash.to_nix32());
        let plain = nar_etag(hash, &nar_hash, None);
        if headers.contains_key(RANGE) && cx.parts.method == Method::GET {
            let representation = match resolve(applicable_range(headers, &plain), valid.info.nar_size) {
                Selection::Whole => Representation::Whole(ContentCoding::Identity),
                Selection::Range(range) => Representation::Range(range),
                Selection::Unsatisfiable => Representation::Unsatisfiable,
            };
            return Self { representation, tag: plain };
        }
        let may_encode = !cx.needs_content_length() && valid.info.nar_size <= 1 << MAX_WINDOW_LOG;
        let is_accepted = || negotiate(headers) == ContentCoding::Zstd;
        if let Some(cache) = app.nar_cache_for(valid).filter(|_| may_encode && is_accepted()) {
            let tag = nar_etag(hash, &nar_hash, Some(cache.tag().as_str()));
            return Self { representation: Representation::Whole(ContentCoding::Zstd), tag };
        }
        Self { representation: Representation::Whole(ContentCoding::Identity), tag: plain }
    }
}

/// Answers with the whole NAR, in this coding unless the NAR cache fails.
async fn whole(
    app: &App,
    cx: RequestCx<'_>,
    cache_control: CacheControl,
    valid: &Arc<ValidPath>,
    coding: ContentCoding,
) -> Result<Response, HandlerError> {
    if let Some(cache) = app.nar_cache_for(valid).filter(|_| coding == ContentCoding::Zstd) {
        match complete(cx, cache_control, cache.get_or_fill(valid, cx.client).await).await {
            Ok(mut response) => {
                set_content_encoding(&mut response, ContentCoding::Zstd);
                return Ok(response);
            }
            Err(error @ FillError::Store(_)) => return Err(error.into()),
            Err(error) => tracing::debug!("sending the NAR without content encoding: {error}"),
        }
    }
    let size = valid.info.nar_size;
    let body = plain::open(app, valid, 0, size, cx.client).await?;
    let mut response = new_response(StatusCode::OK, cache_control, body);
    set_content_length(&mut response, size);
    set(&mut response, ETAG, nar_etag(valid.path.hash_part(), &valid.info.nar_hash.to_nix32(), None));
    Ok(response)
}

fn head(app: &App, cache_control: CacheControl, coding: ContentCoding, valid: &ValidPath) -> Response {
    let mut response = new_response(StatusCode::OK, cache_control, Body::empty());
    let length = match coding {
        ContentCoding::Identity => Some(valid.info.nar_size),
        ContentCoding::Zstd => {
            app.nar_cache_for(valid).and_then(|cache| cache.file_info(&valid.info.nar_hash)).map(|it| it.size)
        }
    };
    if let Some(length) = length {
        set_content_length(&mut response, length);
    }
    set_content_encoding(&mut response, coding);
    response
}
