//! `/<hash>.narinfo`: the metadata of a path, signed.

use std::sync::Arc;

use harmonia_protocol::hash::Hash;
use harmonia_protocol::narinfo::{Compression, NarInfo, NarInfoError, RawFields};
use harmonia_protocol::{HashPart, StoreDir};
use serde_json::json;

use crate::bucket::BucketNarInfo;
use crate::fairness::ClientId;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::request::context::RequestCx;
use crate::http::request::route::{compressed_nar_url, nar_url};
use crate::http::request::user_agent::accepts_zstd_nars;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::set_vary;
use crate::http::response::text::text_compressed_from;
use crate::nar_cache::{EncodingTag, FileInfo};
use crate::store::{SignatureLines, ValidPath};

/// Smallest narinfo that is compressed, in bytes. A smaller one consists mostly of hashes, which hardly compress, and
/// compressing it would take longer than everything else that is done for it.
const MIN_COMPRESSED: usize = 4 << 10;
/// Headers on which a narinfo depends.
const VARIES: &str = "accept-encoding, user-agent";

/// Answers with the narinfo of the path with this hash part, in Nix's format or as JSON. Prefetches its references, whose
/// narinfos the client requests next.
pub(crate) async fn respond(
    app: &App,
    cx: RequestCx<'_>,
    hash: HashPart,
    as_json: bool,
) -> Result<Response, HandlerError> {
    let valid = match app.valid_path(hash, cx).await {
        Ok(valid) => valid,
        // Boxed: a request for a path of this host does not pay for it.
        Err(why) => return Box::pin(of_another_host(app, cx, hash, as_json, why)).await,
    };
    app.store.record_served(&valid);
    if let Some(bucket) = &app.bucket {
        bucket.record_served(&hash);
        bucket.record_used(&hash);
        if bucket.has_other_build(&hash) {
            if let Some(found) = Box::pin(app.other_build(hash, cx)).await {
                return of_bucket(app, cx, hash, as_json, &found);
            }
        }
    }
    let signed = signed(app, &valid, cx.client).await?;
    let cache = app.nar_cache_for(&valid).filter(|_| accepts_zstd_nars(cx.headers()));
    let file = cache.and_then(|cache| cache.file_info(&valid.info.nar_hash));
    let narinfo = render(app, &valid, &signed, cache.map(|cache| (cache.tag(), file)))?;
    if let Some(cache) = cache.filter(|_| file.is_none()) {
        cache.precompress(&valid, cx.client);
    }
    let narinfo =
        if as_json { Text::Json(NarInfo::parse(&narinfo, app.store.directory())?) } else { Text::Lines(narinfo) };
    Ok(send(app, cx, narinfo))
}

/// Answers with the narinfo of a path that another host has published, or with the error of the store.
async fn of_another_host(
    app: &App,
    cx: RequestCx<'_>,
    hash: HashPart,
    as_json: bool,
    why: HandlerError,
) -> Result<Response, HandlerError> {
    let found = app.path_in_bucket(hash, cx, why).await?;
    if let Some(bucket) = app.bucket() {
        bucket.record_used(&hash);
    }
    of_bucket(app, cx, hash, as_json, &found)
}

fn of_bucket(
    app: &App,
    cx: RequestCx<'_>,
    hash: HashPart,
    as_json: bool,
    found: &BucketNarInfo,
) -> Result<Response, HandlerError> {
    let plain = (!accepts_zstd_nars(cx.headers())).then(|| nar_url(hash, &found.nar_hash().to_nix32())).transpose()?;
    let narinfo = found.for_client(plain);
    let text =
        if as_json { Text::Json(narinfo.into_owned()) } else { Text::Lines(narinfo.render(app.store.directory())) };
    let mut response = send(app, cx, text);
    set_vary(&mut response, VARIES);
    Ok(response)
}

/// A narinfo in the format that is requested.
enum Text {
    Lines(String),
    Json(NarInfo),
}

fn send(app: &App, cx: RequestCx<'_>, narinfo: Text) -> Response {
    let (media_type, text) = match narinfo {
        Text::Json(narinfo) => ("application/json", json(&narinfo, app.store.directory())),
        Text::Lines(text) => ("text/x-nix-narinfo", text),
    };
    let compressor = app.compressor.as_ref();
    let mut response =
        text_compressed_from(MIN_COMPRESSED, compressor, cx.headers(), CacheControl::OneHour, media_type, text.into());
    if compressor.is_some() {
        set_vary(&mut response, VARIES);
    }
    response
}

/// Renders the narinfo of a path with the URL of its NAR, or with that of its compressed NAR, and the hash and size of that file if known.
///
/// Rendered for each request, which takes no longer than a lookup would; what takes time is cached with the path.
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
        // The file is the NAR. Clients show the size of the file, and strict parsers reject a narinfo without one.
        (nar_url(hash, &nix32)?, Compression::None, Some((nar_hash.clone(), info.nar_size)))
    };
    let (file_hash, file_size) = file.unzip();
    let fields = RawFields {
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
    Ok(fields.render(app.store.directory()))
}

/// Signs a prefetched path, unless its contents have to be read to know whether to trust it.
pub(crate) async fn sign_prefetched(app: &App, valid: &Arc<ValidPath>) {
    if app.is_known_to_be_served(valid) {
        // An error is reported to the client that requests it.
        drop(signed(app, valid, ClientId::Server).await);
    }
}

/// Returns the lines that the keys and settings in use add to the narinfo of a path, cached with the path.
async fn signed(app: &App, valid: &Arc<ValidPath>, client: ClientId) -> Result<SignatureLines, HandlerError> {
    let signer = app.signer.load();
    if let Some(known) = valid.signature_lines(signer.id()) {
        return Ok(known);
    }
    // A guard of the signer must not be held across an await.
    let signer = Arc::clone(&signer);
    let is_trusted = app.trusts(&signer, valid, client).await?;
    let (path, info, store) = (&valid.path, valid.info.to_path_info(), app.store.directory());
    let own = if is_trusted { signer.sign_path(path, &info, store) } else { Vec::new() };
    let url = nar_url(path.hash_part(), &info.nar_hash.to_nix32())?;
    let rendered = NarInfo::from_path_info(path, &info, store, url, Compression::None, own).trailing_lines();
    // Mostly the lines from nix-daemon are the end of them, and are in memory already.
    let ours = rendered.strip_suffix(valid.info.trailing_lines());
    let lines = SignatureLines { lines: ours.unwrap_or(&rendered).into(), append_daemon_lines: ours.is_some() };
    app.store.cache_signature_lines(valid, signer.id(), lines.clone());
    Ok(lines)
}

/// Renders a narinfo as JSON with the keys of `nix path-info --json`.
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
