//! Looks up the path that the URL of a NAR names.

use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;
use hyper::header::HeaderValue;

use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::context::RequestCx;
use crate::store::ValidPath;

/// Media type of a NAR, compressed or not.
pub(crate) const NAR_TYPE: HeaderValue = HeaderValue::from_static("application/x-nix-nar");

/// Returns the path with this hash part, if it is served and has the NAR that the URL names, if it names one. Prefetches
/// its references: a client that still has their narinfos requests their NARs next.
pub(crate) async fn lookup(
    app: &App,
    hash: HashPart,
    nar_hash: Option<NarHash>,
    cx: RequestCx<'_>,
) -> Result<Arc<ValidPath>, HandlerError> {
    let matches = |valid: &ValidPath| nar_hash.is_none_or(|nar_hash| valid.info.nar_hash == nar_hash);
    let mut valid = app.valid_path(hash, cx).await?;
    if !matches(&valid) {
        // A cached path info does not prove that there is no such NAR.
        valid = app.revalidated_path(hash, cx).await?;
    }
    if !matches(&valid) {
        // Rebuilt with other contents since a client got that URL.
        return Err(NotFound::NarHashMismatch.into());
    }
    app.store.prefetch_references(&valid);
    Ok(valid)
}
