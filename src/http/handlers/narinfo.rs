//! `/<hash>.narinfo`: what is known of a path, signed.

use std::sync::Arc;

use harmonia_protocol::narinfo::{Compression, NarInfo, NarInfoError};
use harmonia_protocol::{HashPart, StoreDir};
use serde_json::json;

use super::super::App;
use super::super::error::HandlerError;
use super::super::narinfo_texts::{Form, Sources};
use super::super::route::nar_url;
use super::super::text::Text;
use crate::signing::SigningKeys;
use crate::store::ValidPath;

/// The narinfo in this form; `None` if there is no such path. Whoever asks for it asks for those of its references next.
pub(in crate::http) async fn text(app: &App, hash: HashPart, form: Form) -> Result<Option<Arc<Text>>, HandlerError> {
    let Some(valid) = app.store.valid_path(hash).await? else { return Ok(None) };
    app.store.expect_references(&valid);
    let sources = Sources { valid, keys: app.keys.load_full() };
    if let Some(text) = app.narinfo_texts.find(form, &sources) {
        return Ok(Some(text));
    }
    let store = app.store.directory();
    let narinfo = narinfo(&sources.valid, &sources.keys, store)?;
    let text = match form {
        Form::Nix => narinfo.render(store),
        Form::Json => json(&narinfo, store),
    };
    let text = Arc::new(Text::new(text));
    app.narinfo_texts.keep(form, sources, &text);
    Ok(Some(text))
}

fn narinfo(valid: &ValidPath, keys: &SigningKeys, store: &StoreDir) -> Result<NarInfo, NarInfoError> {
    let ValidPath { path, info } = valid;
    let url = nar_url(path.hash_part(), &info.nar_hash)?;
    let signatures = keys.sign(&info.fingerprint(path, store));
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
