//! `/debuginfo/<build id>`: the location of the debug info of a build, for debuggers and their servers.
//!
//! The format is that of Nix and hydra. Readers need an uncompressed NAR (dwarffs knows no zstd) and resolve its URL
//! relative to that of this response; some reject an absolute one.

use serde_json::json;

use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::context::RequestCx;
use crate::http::request::route::nar_url;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::text::text;
use crate::store::{BuildId, ValidPath};

/// Returns the URL of the NAR and the name of the file in it.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, id: &BuildId) -> Result<Response, HandlerError> {
    let sight = app.sight(cx).await?;
    let (visible, wanted) = (|hash| sight.sees(hash), |valid: &ValidPath| app.may_serve(valid));
    let valid = app.store.find_debug_info(id, visible, wanted, cx.client).await?;
    let valid = valid.ok_or(NotFound::NoDebugInfo)?;
    if !app.serves(&valid, cx.client).await? {
        return Err(NotFound::NoDebugInfo.into());
    }
    let url = nar_url(valid.path.hash_part(), &valid.info.nar_hash.to_nix32())?;
    let json = json!({ "archive": format!("../{}", url.as_str()), "member": id.member() }).to_string();
    Ok(text(app.compressor.as_ref(), cx.headers(), CacheControl::OneHour, "application/json", json.into()))
}
