//! `/nar/…`: the NAR of a path, whole, in part, or encoded.

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use super::super::App;
use super::super::body::{Body, NarBody};
use super::super::coding::{Coding, negotiated};
use super::super::compress::Compressed;
use super::super::error::HandlerError;
use super::super::range::{Part, Requested, honoured, requested};
use super::super::response::{
    Keep, Reply, is_held, nar_etag, not_modified, refusal, reply, set, set_coding, set_length, set_vary, unsatisfiable,
};
use crate::store::ValidPath;

/// Answers a request for the NAR `nar_hash` of the path with this hash part.
pub(in crate::http) async fn respond(
    app: &App,
    request: &Parts,
    hash: HashPart,
    nar_hash: NarHash,
) -> Result<Reply, HandlerError> {
    let mut valid = app.store.valid_path(hash).await?;
    if valid.as_ref().is_some_and(|valid| valid.info.nar_hash != nar_hash) {
        // Only the daemon says that there is no such NAR, and not what it said a while ago.
        valid = app.store.valid_path_anew(hash).await?;
    }
    // Rebuilt since that URL was given out: other bytes.
    let Some(valid) = valid.filter(|valid| valid.info.nar_hash == nar_hash) else {
        return Ok(refusal(StatusCode::NOT_FOUND));
    };
    let wanted = Wanted::of(app, request, &valid);
    let mut reply = match wanted.representation {
        _ if is_held(&request.headers, &wanted.tag) => not_modified(Keep::Forever, wanted.tag.clone()),
        Representation::Unsatisfiable => unsatisfiable(valid.info.nar_size),
        ref representation if request.method == Method::HEAD => head(representation, valid.info.nar_size),
        representation => {
            let mut nar = app.store.nar(&valid).await?;
            nar.begin().await?;
            body(app, representation, nar, valid.info.nar_size)
        }
    };
    if reply.status().is_success() {
        set(&mut reply, CONTENT_TYPE, HeaderValue::from_static("application/x-nix-nar"));
        set(&mut reply, ETAG, wanted.tag);
    }
    if app.compression.is_some() {
        set_vary(&mut reply);
    }
    Ok(reply)
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
    /// section 14.2). Nor does HTTP/1.0, nginx's default to its upstreams: the length of an encoded NAR is not known,
    /// and without one or chunks the end of a NAR that was cut looks like any other.
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
        match &app.compression {
            Some(compression) if request.version > Version::HTTP_10 && negotiated(headers) == Coding::Zstd => Self {
                representation: Representation::Whole(Coding::Zstd),
                tag: nar_etag(hash, &nar_hash, Some(&compression.tag)),
            },
            _ => Self { representation: Representation::Whole(Coding::Identity), tag: plain },
        }
    }
}

fn head(representation: &Representation, size: u64) -> Reply {
    let mut reply = reply(StatusCode::OK, Keep::Forever, Body::empty());
    match representation {
        Representation::Whole(Coding::Zstd) => set_coding(&mut reply, Coding::Zstd),
        _ => set_length(&mut reply, size),
    }
    reply
}

fn body(app: &App, representation: Representation, nar: crate::store::Nar, size: u64) -> Reply {
    match (representation, &app.compression) {
        (Representation::Part(part), _) => {
            let mut reply =
                reply(StatusCode::PARTIAL_CONTENT, Keep::Forever, Body::Nar(Box::new(NarBody::part(nar, &part))));
            if let Ok(range) = HeaderValue::from_str(&part.content_range()) {
                set(&mut reply, CONTENT_RANGE, range);
            }
            set_length(&mut reply, part.len());
            reply
        }
        (Representation::Whole(Coding::Zstd), Some(compression)) => {
            let nar = NarBody::whole(nar, size);
            let encoded = Compressed::new(nar, Some(size), compression.settings, compression.encoders.clone());
            let mut reply = reply(StatusCode::OK, Keep::Forever, Body::Compressed(Box::new(encoded)));
            set_coding(&mut reply, Coding::Zstd);
            reply
        }
        _ => {
            let mut reply = reply(StatusCode::OK, Keep::Forever, Body::Nar(Box::new(NarBody::whole(nar, size))));
            set_length(&mut reply, size);
            reply
        }
    }
}
