//! `/<hash>.ls`: the listing of a path's NAR: its files with their offsets.
//!
//! Made from the NAR, so that the store need not be visible here, and completed only if the NAR has the size and hash of the
//! path info. A HEAD or 304 does not read the NAR.

use std::path::Path;

use harmonia_protocol::HashPart;
use hyper::StatusCode;

use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::request::context::RequestCx;
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::compress::StreamCompression;
use crate::http::response::headers::set_content_length;
use crate::http::response::listing_body;
use crate::http::response::listing_body::ListingBody;
use crate::http::response::text::streamed_text;
use crate::store::StoreError;

/// Version of the format in the entity tag, to be changed whenever the listing of the same NAR changes.
const FORMAT: &str = "ls2";

/// Answers with the listing of the path with this hash part.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, hash: HashPart) -> Result<Response, HandlerError> {
    let valid = match app.valid_path(hash, cx).await {
        Ok(valid) => valid,
        Err(why) => return app.listing_in_bucket(hash, cx, why).await,
    };
    let tag = format!("{}-{FORMAT}", valid.info.nar_hash.to_nix32());
    let (mut response, compression) =
        streamed_text(app.compressor.as_ref(), cx, CacheControl::OneHour, "application/json", &tag);
    if response.status() != StatusCode::OK || cx.is_head() {
        return Ok(response);
    }
    let permit = app.io_limits.listing(cx.client).await;
    if cx.needs_content_length() {
        set_content_length(&mut response, listing_body::length(app.store.nar_events(&valid, cx.client).await?).await?);
    }
    let encoder = compression
        .map(StreamCompression::writer)
        .transpose()
        .map_err(|cause| StoreError::file(Path::new("a listing"), &cause))?;
    let mut body = ListingBody::new(app.store.nar_events(&valid, cx.client).await?, encoder, permit);
    body.wait_for_start().await?;
    Ok(response.map(|_| Body::Listing(Box::new(body))))
}
