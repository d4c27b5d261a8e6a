//! `/<hash>.narinfo`: what is known of a path, signed.

use bytes::Bytes;
use harmonia_protocol::narinfo::{Compression, NarInfo, NarInfoError};
use harmonia_protocol::{HashPart, StoreDir};
use serde_json::json;

use super::super::App;
use super::super::error::HandlerError;
use super::super::route::nar_url;
use crate::store::ValidPath;

/// The narinfo in Nix's format, or as JSON; `None` if there is no such path.
pub(in crate::http) async fn render(app: &App, hash: HashPart, as_json: bool) -> Result<Option<Bytes>, HandlerError> {
    let Some(valid) = app.store.valid_path(hash).await? else { return Ok(None) };
    let store = app.store.directory();
    let narinfo = narinfo(app, &valid)?;
    let text = if as_json { json(&narinfo, store) } else { narinfo.render(store) };
    Ok(Some(text.into()))
}

fn narinfo(app: &App, valid: &ValidPath) -> Result<NarInfo, NarInfoError> {
    let ValidPath { path, info } = valid;
    let store = app.store.directory();
    let url = nar_url(path.hash_part(), &info.nar_hash)?;
    let signatures = app.keys.load().sign(&info.fingerprint(path, store));
    Ok(NarInfo::of(path, info, store, url, Compression::None, signatures))
}

/// The same by the names of `nix path-info --json`.
fn json(narinfo: &NarInfo, store: &StoreDir) -> String {
    let full = |path| store.full_path(path);
    let strings = |items: &[_]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut value = json!({
        "path": full(&narinfo.path),
        "url": narinfo.url.as_str(),
        "compression": narinfo.compression.name(),
        "narHash": narinfo.nar_hash.to_string(),
        "narSize": narinfo.nar_size,
        "references": narinfo.references.iter().map(full).collect::<Vec<_>>(),
        "deriver": narinfo.deriver.as_ref().map(full),
        "signatures": strings(&narinfo.signatures),
        "ca": narinfo.content_address.as_ref().map(ToString::to_string),
    });
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    format!("{value}\n")
}
