//! `/serve/<hash>-<name>`: the page about a path that this host does not have and another one has published.
//!
//! Shows what its narinfo says, which is all that this host knows.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use harmonia_protocol::StorePath;
use hyper::StatusCode;

use super::path_facts::{bytes, copy_commands, nowrap, references};
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::html::page::{Facts, HTML, breakable, code_box, page, section};
use crate::http::links::encode_segment;
use crate::http::request::context::RequestCx;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::status::redirect;
use crate::http::response::text::text;

/// Upper bound of keys that are shown.
const MAX_KEYS: usize = 20;

/// Answers with the page about a path that the store has failed with this error to serve, or redirects to it if the name after the hash
/// part differs.
pub(super) async fn respond(
    app: &App,
    cx: RequestCx<'_>,
    path: &StorePath,
    why: HandlerError,
) -> Result<Response, HandlerError> {
    let narinfo = app.path_in_bucket(path.hash_part(), cx, why).await?;
    if narinfo.path() != path {
        let link = format!("./{}", encode_segment(narinfo.path().base_name().as_bytes()));
        return Ok(redirect(StatusCode::FOUND, CacheControl::NoStore, &link));
    }
    let (info, store, signer) = (narinfo.path_info(), app.store.directory(), app.signer.load());
    let full_path = store.full_path(path);
    let mut facts = Facts::default();
    facts.row("Where", "Another host of this cache has published it, signed by a key that this host trusts.");
    facts.row("Size", &bytes(narinfo.nar_size()));
    facts.row("Compressed", &bytes(narinfo.file_size()));
    facts.row("NAR hash", &nowrap(&format!("sha256:{}", info.nar_hash.to_nix32())));
    if let Some(deriver) = &info.deriver {
        facts.row("Built from", &nowrap(&store.full_path(deriver)));
    }
    if let Some(address) = &info.content_address {
        facts.row("Content address", &nowrap(&address.to_string()));
    }
    // One of them is proven.
    let names: BTreeSet<_> = info.signatures.iter().map(|signature| signature.key().to_string()).collect();
    let names: Vec<_> = names.iter().take(MAX_KEYS).map(|name| nowrap(name)).collect();
    facts.row("Signatures", &names.join("<br>"));
    let keys: Vec<String> = signer.keys().public_keys().map(ToString::to_string).collect();
    let commands = copy_commands(&full_path, &app.pages.base_url(cx.parts), &keys);
    let mut main = format!("<nav><a href=\"../\">This cache</a></nav>\n<h1>{}</h1>\n", breakable(path.name()));
    main.push_str(&code_box(&full_path));
    let _ = write!(main, "<section>\n<h2>Facts</h2>\n{}</section>\n", facts.html());
    let lead = "With its closure, as root or another trusted user; the second command works with any release of Nix:";
    main.push_str(&section("Copy it", lead, &commands.each_ref().map(String::as_str)));
    let names: Vec<_> = info.references.iter().map(|reference| reference.base_name().to_owned()).collect();
    references(&mut main, path.base_name(), &names);
    let hash = path.hash_part();
    let footer = format!("<a href=\"../{hash}.ls\">listing</a>\n<a href=\"../{hash}.narinfo\">narinfo</a>\n");
    let html = page(path.name(), &main, &footer);
    let mut response = text(app.compressor.as_ref(), cx.headers(), CacheControl::Revalidate, HTML, html.into());
    app.pages.protect(&mut response);
    Ok(response)
}
