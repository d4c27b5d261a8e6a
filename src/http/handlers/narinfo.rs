//! `/<hash>.narinfo`: what is known of a path, signed.

use std::sync::Arc;

use harmonia_protocol::hash::Hash;
use harmonia_protocol::narinfo::{Compression, NarInfo, NarInfoError};
use harmonia_protocol::{HashPart, StoreDir};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::json;

use super::super::App;
use super::super::error::HandlerError;
use super::super::narinfo_texts::{Form, NarForm, Sources, Syntax};
use super::super::response::{Keep, Reply, refusal, set_vary};
use super::super::route::{compressed_nar_url, nar_url};
use super::super::text::Text;
use super::super::user_agent::takes_zstd_nars;
use crate::client::Client;
use crate::nar_cache::FileInfo;
use crate::store::ValidPath;

/// Answers a request for the narinfo of the path with this hash part. Whoever asks for it asks for those of its
/// references next.
pub(in crate::http) async fn respond(
    app: &App,
    headers: &HeaderMap,
    hash: HashPart,
    syntax: Syntax,
    client: Client,
) -> Result<Reply, HandlerError> {
    let Some(valid) = app.valid_path(hash, client).await? else { return Ok(refusal(StatusCode::NOT_FOUND)) };
    app.store.given_out(&valid);
    let is_compressed = app.compression.is_some() && takes_zstd_nars(headers);
    let text = text(app, valid, syntax, is_compressed, client).await?;
    let kind = match syntax {
        Syntax::Nix => "text/x-nix-narinfo",
        Syntax::Json => "application/json",
    };
    let mut reply = app.text_reply(headers, Keep::AnHour, kind, &text);
    if app.compression.is_some() {
        set_vary(&mut reply, "accept-encoding, user-agent");
    }
    Ok(reply)
}

/// Makes the narinfo of a path that nobody has asked for yet, as the last one was wanted.
pub(in crate::http) async fn make_ahead(app: &App, valid: Arc<ValidPath>) {
    let Some(Form { syntax, nar }) = app.narinfo_texts.wanted() else { return };
    if app.is_served_at_once(&valid) {
        // What is wrong with it is for whoever asks.
        drop(text(app, valid, syntax, nar != NarForm::Plain, Client::Server).await);
    }
}

/// The narinfo of a path, of its NAR or of the compressed form of that.
async fn text(
    app: &App,
    valid: Arc<ValidPath>,
    syntax: Syntax,
    is_compressed: bool,
    client: Client,
) -> Result<Arc<Text>, HandlerError> {
    let file = if is_compressed { app.nars.file_info(&valid.info.nar_hash) } else { None };
    let nar = if is_compressed { NarForm::Compressed { is_measured: file.is_some() } } else { NarForm::Plain };
    let form = Form { syntax, nar };
    let sources = Sources { valid, signer: app.signer.load_full() };
    if let Some(text) = app.narinfo_texts.find(form, &sources) {
        return Ok(text);
    }
    let store = app.store.directory();
    let is_trusted = app.trusts(&sources.signer, &sources.valid, client).await?;
    let narinfo = narinfo(app, &sources, is_trusted, form.nar, file)?;
    let text = match form.syntax {
        Syntax::Nix => narinfo.render(store),
        Syntax::Json => json(&narinfo, store),
    };
    let text = Arc::new(Text::new(text));
    app.narinfo_texts.keep(form, sources, &text);
    Ok(text)
}

/// What is told of a path, signed if it is trusted.
fn narinfo(
    app: &App,
    sources: &Sources,
    is_trusted: bool,
    nar: NarForm,
    file: Option<FileInfo>,
) -> Result<NarInfo, NarInfoError> {
    let ValidPath { path, info, .. } = &*sources.valid;
    let (hash, store) = (path.hash_part(), app.store.directory());
    let signatures = if is_trusted { sources.signer.sign_path(path, info, store) } else { Vec::new() };
    let of = |url, compression| NarInfo::of(path, info, store, url, compression, signatures);
    match nar {
        // The file is the NAR. Clients show the size of the file, and strict readers refuse a narinfo without one.
        NarForm::Plain => Ok(NarInfo {
            file_hash: Some(info.nar_hash.into()),
            file_size: Some(info.nar_size),
            ..of(nar_url(hash, &info.nar_hash)?, Compression::None)
        }),
        NarForm::Compressed { .. } => Ok(NarInfo {
            file_hash: file.map(|file| Hash::sha256(file.sha256)),
            file_size: file.map(|file| file.size),
            ..of(compressed_nar_url(hash, &info.nar_hash, app.nars.tag())?, Compression::Zstd)
        }),
    }
}

/// The same by the names of `nix path-info --json`.
fn json(narinfo: &NarInfo, store: &StoreDir) -> String {
    let full = |path| store.full_path(path);
    let strings = |items: &[_]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut value = json!({
        "path": full(&narinfo.path),
        "url": narinfo.url.as_str(),
        "compression": narinfo.compression.name(),
        "downloadHash": narinfo.file_hash.as_ref().map(ToString::to_string),
        "downloadSize": narinfo.file_size,
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
