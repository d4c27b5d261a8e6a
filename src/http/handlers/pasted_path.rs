//! `/nix/store/<hash>-<name>/…` and `/<hash>`: redirects from a store path pasted behind the cache's URL.

use hyper::StatusCode;

use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::links::{files_link, page_link};
use crate::http::request::context::RequestCx;
use crate::http::request::pasted_path::{PastedPath, PathName};
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::status::redirect;

/// Answers with a redirect to the page about the path, or to the file in it.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, pasted: &PastedPath) -> Result<Response, HandlerError> {
    let store = app.store.directory().as_str();
    if !["", "/serve", store].contains(&&*pasted.directory) {
        return Err(NotFound::UnknownUrl.into());
    }
    let link = match &pasted.name {
        PathName::Full(path) if pasted.names.is_empty() => page_link(path),
        PathName::Full(path) => files_link(path.hash_part(), &pasted.names),
        PathName::Hash(hash) => page_link(&app.path_anywhere(*hash, cx).await?),
    };
    Ok(redirect(StatusCode::FOUND, CacheControl::NoStore, &pasted.relative(&link)))
}
