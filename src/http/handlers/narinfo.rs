//! `/<hash>.narinfo`: what is known of a path, signed.

use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::hash::Hash;
use harmonia_protocol::narinfo::{Compression, NarInfo, NarInfoError, RawFields};
use harmonia_protocol::{HashPart, StoreDir};
use hyper::header::HeaderMap;
use serde_json::json;

use super::super::App;
use super::super::error::HandlerError;
use super::super::response::{Keep, Reply, set_vary};
use super::super::route::{compressed_nar_url, nar_url};
use super::super::text;
use super::super::user_agent::takes_zstd_nars;
use crate::fairness::ClientId;
use crate::nar_cache::{EncodingTag, FileInfo};
use crate::store::{SignatureLines, ValidPath};

/// Narinfos of fewer bytes are not encoded: they are hashes for the most part, so that little is saved, and encoding one
/// takes more time than all else that is done for it.
const LEAST_ENCODED: usize = 4 << 10;

/// How a narinfo is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Syntax {
    /// Nix's own.
    Nix,
    /// JSON, for programs.
    Json,
}

/// Answers a request for the narinfo of the path with this hash part. Whoever asks for it asks for those of its
/// references next.
pub(in crate::http) async fn respond(
    app: &App,
    headers: &HeaderMap,
    hash: HashPart,
    syntax: Syntax,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    let valid = app.valid_path(hash, client).await?;
    app.store.record_served(&valid);
    let signed = signed(app, &valid, client).await?;
    let nars = app.compressed_nars(&valid).filter(|_| takes_zstd_nars(headers));
    let file = nars.and_then(|nars| nars.file_info(&valid.info.nar_hash));
    let text = render(app, &valid, &signed, nars.map(|nars| (nars.tag(), file)))?;
    if let Some(nars) = nars.filter(|_| file.is_none()) {
        nars.precompress(&valid, client);
    }
    let (kind, text) = match syntax {
        Syntax::Nix => ("text/x-nix-narinfo", text),
        Syntax::Json => {
            ("application/json", json(&NarInfo::parse(&text, app.store.directory())?, app.store.directory()))
        }
    };
    let compression = app.compression.as_ref();
    let mut reply = text::reply(Bytes::from(text), LEAST_ENCODED, compression, headers, Keep::AnHour, kind);
    if app.compression.is_some() {
        set_vary(&mut reply, "accept-encoding, user-agent");
    }
    Ok(reply)
}

/// Renders the narinfo of a path, which names its NAR, or an encoding of that and what is known of the file. It is put
/// together anew for each request, which takes no more time than looking for it would; what takes time is kept with the
/// path.
fn render(
    app: &App,
    valid: &ValidPath,
    signed: &SignatureLines,
    compressed: Option<(&EncodingTag, Option<FileInfo>)>,
) -> Result<String, NarInfoError> {
    let ValidPath { path, info, .. } = valid;
    let (hash, nix32) = (path.hash_part(), info.nar_hash.to_nix32());
    let nar_hash = ["sha256:", &nix32].concat();
    let (url, compression, file) = if let Some((tag, file)) = compressed {
        let file = file.map(|file| (Hash::from_sha256(file.sha256).to_string(), file.size));
        (compressed_nar_url(hash, &nix32, tag)?, Compression::Zstd, file)
    } else {
        // The file is the NAR. Clients show the size of the file, and strict readers refuse a narinfo without one.
        (nar_url(hash, &nix32)?, Compression::None, Some((nar_hash.clone(), info.nar_size)))
    };
    let (file_hash, file_size) = file.unzip();
    let pieces = RawFields {
        path,
        url: &url,
        compression,
        file_hash: file_hash.as_deref(),
        file_size,
        nar_hash: &nar_hash,
        nar_size: info.nar_size,
        references: info.references(),
        deriver: info.deriver(),
        lines: [&signed.lines, if signed.append_daemon_lines { info.trailing_lines() } else { "" }],
    };
    Ok(pieces.render(app.store.directory()))
}

/// Signs a path that nobody has asked for yet, unless its contents have to be read first.
pub(in crate::http) async fn sign_ahead(app: &App, valid: &Arc<ValidPath>) {
    if app.is_served_at_once(valid) {
        // What is wrong with it is for whoever asks.
        drop(signed(app, valid, ClientId::Server).await);
    }
}

/// What the keys and settings in use make of a path. It is made when it is first wanted, and kept with the path.
async fn signed(app: &App, valid: &Arc<ValidPath>, client: ClientId) -> Result<SignatureLines, HandlerError> {
    let signer = app.signer.load();
    if let Some(known) = valid.signature_lines(signer.id()) {
        return Ok(known);
    }
    // Not held while something is waited for.
    let signer = Arc::clone(&signer);
    let is_trusted = app.trusts(&signer, valid, client).await?;
    let (path, info, store) = (&valid.path, valid.info.to_path_info(), app.store.directory());
    let own = if is_trusted { signer.sign_path(path, &info, store) } else { Vec::new() };
    let url = nar_url(path.hash_part(), &info.nar_hash.to_nix32())?;
    let lines = NarInfo::from_path_info(path, &info, store, url, Compression::None, own).trailing_lines();
    // Most often all that the daemon says stays, and is in memory already.
    let ours = lines.strip_suffix(valid.info.trailing_lines());
    let made = SignatureLines { lines: ours.unwrap_or(&lines).into(), append_daemon_lines: ours.is_some() };
    app.store.cache_signature_lines(valid, signer.id(), made.clone());
    Ok(made)
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
