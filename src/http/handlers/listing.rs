//! `/<hash>.ls`: what is in the NAR of a path, and where.
//!
//! It comes from the NAR, whether its store is visible here or not, and ends only if that has the size and the hash of the
//! path info. Whether it has changed, and what HEAD is told, needs no look at the NAR.

use std::path::Path;

use harmonia_protocol::HashPart;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use super::super::App;
use super::super::body::Body;
use super::super::compress::StreamEncoding;
use super::super::error::HandlerError;
use super::super::listing_body::{self, ListingBody};
use super::super::response::{Keep, Reply, set_length};
use super::super::text::streamed;
use crate::fairness::ClientId;
use crate::store::StoreError;

/// The form of the text, in its entity tag: another one whenever the same NAR gets another listing.
const FORM: &str = "ls2";

/// Answers a request for the listing of the path with this hash part.
pub(in crate::http) async fn respond(
    app: &App,
    request: &Parts,
    hash: HashPart,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    let valid = app.valid_path(hash, client).await?;
    let tag = format!("{}-{FORM}", valid.info.nar_hash.to_nix32());
    let (mut reply, encoding) = streamed(app.compression.as_ref(), request, Keep::AnHour, "application/json", &tag);
    if reply.status() != StatusCode::OK || request.method == Method::HEAD {
        return Ok(reply);
    }
    let slot = app.files.listing(client).await;
    if request.version <= Version::HTTP_10 {
        set_length(&mut reply, listing_body::length(app.store.nar_events(&valid, client).await?).await?);
    }
    let encoder = encoding
        .map(StreamEncoding::writer)
        .transpose()
        .map_err(|cause| StoreError::file(Path::new("a listing"), &cause))?;
    let mut body = ListingBody::new(app.store.nar_events(&valid, client).await?, encoder, slot);
    body.begin().await?;
    Ok(reply.map(|_| Body::Listing(Box::new(body))))
}
