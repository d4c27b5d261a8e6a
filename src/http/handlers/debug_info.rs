//! `/debuginfo/<build id>`: where the debug info of a build is, for debuggers and their servers.
//!
//! The format is that of Nix and hydra. Readers take the NAR as it is (dwarffs knows no zstd) and join its URL to that of
//! this answer; some refuse an absolute one.

use bytes::Bytes;
use serde_json::json;

use super::super::App;
use super::super::error::HandlerError;
use super::super::reason::NotFound;
use super::super::route::nar_url;
use crate::fairness::ClientId;
use crate::store::BuildId;

/// Renders the NAR and the file in it.
pub(in crate::http) async fn render(app: &App, id: &BuildId, client: ClientId) -> Result<Bytes, HandlerError> {
    let valid = app.store.find_debug_info(id, |valid| app.may_serve(valid), client).await?;
    let valid = valid.ok_or(NotFound::NoDebugInfo)?;
    if !app.serves(&valid, client).await? {
        return Err(NotFound::NoDebugInfo.into());
    }
    let url = nar_url(valid.path.hash_part(), &valid.info.nar_hash.to_nix32())?;
    Ok(json!({ "archive": format!("../{}", url.as_str()), "member": id.member() }).to_string().into())
}
