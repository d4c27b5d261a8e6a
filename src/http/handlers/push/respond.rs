//! The response to a PUT: by its route, with the rest of a refused body read or the connection closed.

use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::http::request::Parts;
use hyper::{StatusCode, Version};

use super::cx::Cx;
use super::receive::Receiver;
use super::refusal::Refusal;
use super::{discard, nar, narinfo};
use crate::access::Rights;
use crate::fairness::Requester;
use crate::http::app::App;
use crate::http::request::context::RequestCx;
use crate::http::request::route::Route;
use crate::http::request::upload_body::UploadBody;
use crate::http::response::body::Response;
use crate::http::response::headers::set;
use crate::http::response::status;
use crate::http::uploads::Uploads;
use crate::metrics::Upload;
use crate::push::spool::FileHash;

/// Response to a PUT, and what the audit log has of it.
pub(crate) struct Received {
    pub(crate) response: Response,
    /// Bytes of the body that arrived.
    pub(crate) bytes: u64,
    /// Reason for which it was refused.
    pub(crate) refusal: Option<String>,
}

/// Answers a PUT.
pub(crate) async fn respond(
    app: &App,
    uploads: &Uploads,
    request: RequestCx<'_>,
    requester: &Requester,
    (route, body): (Route, UploadBody),
) -> Received {
    let cx = Cx { app, uploads, request, requester };
    let _in_progress = uploads.metrics().upload_started();
    let mut body = Receiver::new(body, requester);
    let class = request.granted.principal.class().label();
    let outcome = handle(&cx, &route, &mut body).await;
    uploads.metrics().record(class, kind(&route), outcome.as_ref().map_or_else(Refusal::label, |()| "ok"));
    uploads.metrics().record_bytes(class, body.received());
    let mut response = match &outcome {
        Ok(()) => status::plain_line("OK"),
        Err(refusal) => {
            let target = request.parts.uri.path();
            tracing::debug!(?target, principal = %request.granted.principal, "upload refused: {}", refusal.cause());
            refusal.response()
        }
    };
    let (bytes, refusal) = (body.received(), outcome.err().map(|refusal| refusal.cause().to_owned()));
    end(request.parts, &mut body, &mut response).await;
    Received { response, bytes, refusal }
}

/// Ends the request of a client that may not make it. What it sends without having been asked is read, up to a limit, so that it
/// reads the response.
pub(crate) async fn end_refused(parts: &Parts, body: UploadBody, requester: &Requester, response: &mut Response) {
    end(parts, &mut Receiver::new(body, requester), response).await;
}

/// Reads the start of what is left of the body, unless the client waits for permission to send it. Closes the connection if there
/// is more.
async fn end(parts: &Parts, body: &mut Receiver, response: &mut Response) {
    if body.has_ended() {
        return;
    }
    if !parts.headers.contains_key(EXPECT) {
        body.drain().await;
    }
    // The rest of the body could be taken for a request.
    if !body.has_ended() && parts.version <= Version::HTTP_11 {
        set(response, CONNECTION, HeaderValue::from_static("close"));
    }
}

fn kind(route: &Route) -> Upload {
    match route {
        Route::UploadedNar { .. } => Upload::Nar,
        Route::NarInfo { .. } => Upload::NarInfo,
        _ => Upload::Other,
    }
}

async fn handle(cx: &Cx<'_>, route: &Route, body: &mut Receiver) -> Result<(), Refusal> {
    if !cx.request.granted.may(Rights::PUSH) {
        return Err(Refusal::not_granted());
    }
    match route {
        Route::UploadedNar { file } => nar::put(cx, FileHash::from_digest(*file.sha256()), body).await,
        Route::NarInfo { hash, json: false } => narinfo::put(cx, *hash, body).await,
        Route::Listing { .. } | Route::DebugInfo { .. } => discard::put(cx, body).await,
        Route::BuildLog { .. } => {
            Err(Refusal::not_allowed("build logs cannot be pushed: this cache serves those of its own machine"))
        }
        Route::Realisation(_) => Err(Refusal::not_allowed(
            "realisations cannot be pushed: the store paths were, and can be fetched by their paths",
        )),
        Route::CacheInfo => Err(Refusal::not_allowed("nix-cache-info cannot be pushed: it is that of this cache")),
        Route::Nar { .. } | Route::CompressedNar { .. } => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "unknown_url",
            "a NAR is uploaded as nar/FILEHASH.nar with the extension of its compression, as nix copy does",
        )),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_url", "nothing can be uploaded to this URL")),
    }
}
