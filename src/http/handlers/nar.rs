//! `/nar/….nar`: the NAR of a path, whole, in part, or encoded.

use std::path::PathBuf;
use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use super::super::App;
use super::super::body::{Body, NarBody};
use super::super::coding::{Coding, negotiated};
use super::super::compress::MAX_WINDOW_LOG;
use super::super::error::HandlerError;
use super::super::file_body::FileBody;
use super::super::range::{Part, Requested, honoured, requested};
use super::super::reason::NotFound;
use super::super::response::{
    Keep, Reply, is_held, nar_etag, not_modified, reply, set, set_coding, set_length, set_vary, unsatisfiable,
};
use super::compressed_nar;
use crate::fairness::ClientId;
use crate::nar_cache::FillError;
use crate::store::{StoreError, ValidPath, VerifyingNar};

/// What a NAR is, compressed or not.
pub(super) const TYPE: HeaderValue = HeaderValue::from_static("application/x-nix-nar");

/// Answers a request for the NAR `nar_hash` of the path with this hash part, or for the one that the path has now: the
/// bytes under such a URL may change, so nobody may keep them.
pub(in crate::http) async fn respond(
    app: &App,
    request: &Parts,
    hash: HashPart,
    nar_hash: Option<NarHash>,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    let keep = if nar_hash.is_some() { Keep::Forever } else { Keep::Not };
    let valid = current(app, hash, nar_hash, client).await?;
    let wanted = Wanted::of(app, request, &valid);
    let size = valid.info.nar_size;
    let mut reply = match wanted.representation {
        _ if is_held(&request.headers, &wanted.tag) => not_modified(keep, wanted.tag.clone()),
        Representation::Unsatisfiable => unsatisfiable(size),
        Representation::Whole(coding) if request.method == Method::HEAD => head(app, keep, coding, &valid),
        Representation::Whole(coding) => whole(app, request, keep, &valid, coding, client).await?,
        Representation::Part(part) => {
            let body = plain(app, &valid, part.first(), part.len(), client).await?;
            let mut reply = reply(StatusCode::PARTIAL_CONTENT, keep, body);
            if let Ok(range) = HeaderValue::from_str(&part.content_range()) {
                set(&mut reply, CONTENT_RANGE, range);
            }
            set_length(&mut reply, part.len());
            reply
        }
    };
    if reply.status().is_success() {
        let tag = reply.headers_mut().remove(ETAG).unwrap_or(wanted.tag);
        set(&mut reply, CONTENT_TYPE, TYPE);
        set(&mut reply, ETAG, tag);
    }
    if app.compression.is_some() {
        set_vary(&mut reply, "accept-encoding");
    }
    Ok(reply)
}

/// The path with this hash part that is given out, if its NAR is the wanted one or none is named. Whoever asks for it asks for those of its references next,
/// perhaps without their narinfos, which he may have had from this program before it was started again.
pub(super) async fn current(
    app: &App,
    hash: HashPart,
    nar_hash: Option<NarHash>,
    client: ClientId,
) -> Result<Arc<ValidPath>, HandlerError> {
    let is_wanted = |valid: &ValidPath| nar_hash.is_none_or(|nar_hash| valid.info.nar_hash == nar_hash);
    let mut valid = app.valid_path(hash, client).await?;
    if !is_wanted(&valid) {
        // Only the daemon says that there is no such NAR, and not what it said a while ago.
        valid = app.valid_path_anew(hash, client).await?;
    }
    if !is_wanted(&valid) {
        // Rebuilt since that URL was given out: other bytes.
        return Err(NotFound::NarHashMismatch.into());
    }
    app.store.prefetch_references(&valid);
    Ok(valid)
}

/// Which bytes a request gets.
enum Representation {
    Whole(Coding),
    Part(Part),
    Unsatisfiable,
}

struct Wanted {
    representation: Representation,
    tag: HeaderValue,
}

impl Wanted {
    /// A request with a `Range` never gets a coding, whatever becomes of the range: it is a client that resumes the
    /// plain bytes, and Nix 2.14 to 2.33 send `Accept-Encoding` along. `Range` means nothing to HEAD (RFC 9110,
    /// section 14.2). Nor does HTTP/1.0, nginx's default to its upstreams: the length of an encoded NAR need not be known,
    /// and without one or chunks the end of a NAR that was cut looks like any other. A NAR that needs a larger window than
    /// a content coding may have is sent as it is.
    fn of(app: &App, request: &Parts, valid: &ValidPath) -> Self {
        let headers = &request.headers;
        let (hash, nar_hash) = (valid.path.hash_part(), valid.info.nar_hash.to_nix32());
        let plain = nar_etag(hash, &nar_hash, None);
        if headers.contains_key(RANGE) && request.method == Method::GET {
            let representation = match requested(honoured(headers, &plain), valid.info.nar_size) {
                Requested::Whole => Representation::Whole(Coding::Identity),
                Requested::Part(part) => Representation::Part(part),
                Requested::Unsatisfiable => Representation::Unsatisfiable,
            };
            return Self { representation, tag: plain };
        }
        let may_be_coded = request.version > Version::HTTP_10 && valid.info.nar_size <= 1 << MAX_WINDOW_LOG;
        if let Some(nars) = app.compressed_nars(valid).filter(|_| may_be_coded && negotiated(headers) == Coding::Zstd) {
            let tag = nar_etag(hash, &nar_hash, Some(nars.tag().as_str()));
            return Self { representation: Representation::Whole(Coding::Zstd), tag };
        }
        Self { representation: Representation::Whole(Coding::Identity), tag: plain }
    }
}

/// All of it, in this coding, or without one if the cache of compressed NARs cannot be used now.
async fn whole(
    app: &App,
    request: &Parts,
    keep: Keep,
    valid: &Arc<ValidPath>,
    coding: Coding,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    if let Some(nars) = app.compressed_nars(valid).filter(|_| coding == Coding::Zstd) {
        match compressed_nar::whole(request, keep, nars.get_or_fill(valid, client).await).await {
            Ok(mut reply) => {
                set_coding(&mut reply, Coding::Zstd);
                return Ok(reply);
            }
            Err(error @ FillError::Store(_)) => return Err(error.into()),
            Err(error) => tracing::debug!("sent as it is: {error}"),
        }
    }
    let size = valid.info.nar_size;
    let mut reply = reply(StatusCode::OK, keep, plain(app, valid, 0, size, client).await?);
    set_length(&mut reply, size);
    set(&mut reply, ETAG, nar_etag(valid.path.hash_part(), &valid.info.nar_hash.to_nix32(), None));
    Ok(reply)
}

fn head(app: &App, keep: Keep, coding: Coding, valid: &ValidPath) -> Reply {
    let mut reply = reply(StatusCode::OK, keep, Body::empty());
    let length = match coding {
        Coding::Identity => Some(valid.info.nar_size),
        Coding::Zstd => {
            app.compressed_nars(valid).and_then(|nars| nars.file_info(&valid.info.nar_hash)).map(|it| it.size)
        }
    };
    if let Some(length) = length {
        set_length(&mut reply, length);
    }
    set_coding(&mut reply, coding);
    reply
}

/// So many bytes of the NAR from `first` on. A part is read from the store's files, where those are to be read and have
/// been proven; or it is decoded, where the compressed form is kept; else it takes the whole. The daemon dumps a NAR in half
/// the time that its compressed form takes to decode, but only from the start. What neither can give now is decoded too.
async fn plain(
    app: &App,
    valid: &Arc<ValidPath>,
    first: u64,
    length: u64,
    client: ClientId,
) -> Result<Body, HandlerError> {
    if length < valid.info.nar_size {
        if let Some(part) = app.store.nar_part_at_hand(valid, first, length, client).await {
            return Ok(body(part, first, length));
        }
        if let Some(body) = kept(app, valid, first, length, client).await {
            return Ok(body);
        }
    }
    match read(app, valid, first, length, client).await {
        Ok(body) => Ok(body),
        Err(error) => kept(app, valid, first, length, client).await.ok_or(error.into()),
    }
}

async fn read(
    app: &App,
    valid: &Arc<ValidPath>,
    first: u64,
    length: u64,
    client: ClientId,
) -> Result<Body, StoreError> {
    let mut nar = if length < valid.info.nar_size {
        app.store.nar_part(valid, first, length, client).await?
    } else {
        app.store.nar(valid, client).await?
    };
    nar.prime().await?;
    Ok(body(nar, first, length))
}

fn body(nar: VerifyingNar, first: u64, length: u64) -> Body {
    Body::Nar(Box::new(NarBody::new(nar, first, length)))
}

/// All of it.
pub(super) async fn whole_body(app: &App, valid: &Arc<ValidPath>, client: ClientId) -> Result<NarBody, StoreError> {
    let mut nar = app.store.nar(valid, client).await?;
    nar.prime().await?;
    Ok(NarBody::new(nar, 0, valid.info.nar_size))
}

async fn kept(app: &App, valid: &ValidPath, first: u64, length: u64, client: ClientId) -> Option<Body> {
    let nars = app.nars.as_ref()?;
    let (nar, memory) = nars.open_decoded(&valid.info.nar_hash, first, client).await?;
    let name = PathBuf::from(app.store.directory().full_path(&valid.path));
    let body = FileBody::new(nar, name, Some(length), Arc::clone(nars.read_permits()), vec![memory]);
    Some(Body::File(Box::new(body)))
}
