//! `/serve/…`: the files of a valid path, for browsers, where the store is visible here.
//!
//! What is in a path is anybody's who may build, and it is served from the cache's own origin. So every response says
//! that its type is what it says, and puts documents into a sandbox of their own (CSP): no script runs, no form is sent,
//! nothing is loaded from elsewhere, and no other site may frame it.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::Name;
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use ring::digest::{SHA256, digest};

use super::super::App;
use super::super::body::Body;
use super::super::directory_page::{self, Page, encoded};
use super::super::error::HandlerError;
use super::super::file_body::FileBody;
use super::super::reason::NotFound;
use super::super::response::{Keep, Reply, etag, reply, set, set_length, set_nosniff};
use super::super::route::{Place, Root};
use super::super::text::streamed;
use super::file;
use crate::fairness::ClientId;
use crate::fairness::Permit;
use crate::store::{Directory, Found, FoundObject, StoreError, ValidPath};

const POLICY: HeaderValue = HeaderValue::from_static(
    "sandbox allow-downloads; default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const INDEX: &[u8] = b"index.html";
const HTML: &str = "text/html; charset=utf-8";

/// Answers a request for what is at this place.
pub(in crate::http) async fn respond(
    app: &App,
    request: &Parts,
    place: &Place,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    let valid = match &place.root {
        Root::Path(hash) => app.valid_path(*hash, client).await?,
        Root::Nar(nar_hash) => app.path_with_nar(nar_hash, client).await?,
    };
    at(app, request, place, &valid, client).await
}

/// Adds the headers that all responses below `/serve/` have, errors included.
pub(in crate::http) fn protect(reply: &mut Reply) {
    set_nosniff(reply);
    set(reply, CONTENT_SECURITY_POLICY, POLICY);
}

async fn at(
    app: &App,
    request: &Parts,
    place: &Place,
    valid: &Arc<ValidPath>,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    let Parts { method, headers, .. } = request;
    let slot = app.files.open(client).await;
    let found = find(app, valid, &place.names, client).await?;
    let (Found { below, object, .. }, within) = found.ok_or(NotFound::NoFile)?;
    match object {
        FoundObject::File(_) if place.slash => Err(NotFound::NoFile.into()),
        FoundObject::File(file) => {
            let name = place.names.last().map_or(valid.path.name().as_bytes(), Name::as_bytes);
            let reply =
                file::respond(app, method, headers, file, tag(&within.info.nar_hash, &below), Keep::AnHour, slot)?;
            Ok(typed(reply, &content_type(name)))
        }
        FoundObject::Directory(_) if !place.slash => Ok(slash_redirect(place)),
        FoundObject::Directory(directory) => {
            let index: Vec<_> = place.names.iter().cloned().chain(Name::new(INDEX)).collect();
            match find(app, valid, &index, client).await? {
                Some((Found { below, object: FoundObject::File(file), .. }, within)) => {
                    let reply = file::respond(
                        app,
                        method,
                        headers,
                        file,
                        tag(&within.info.nar_hash, &below),
                        Keep::AnHour,
                        slot,
                    )?;
                    Ok(typed(reply, HTML))
                }
                _ => page(app, request, place, valid, (directory, &below, &within), slot, client).await,
            }
        }
    }
}

/// What is there, and the path that it is in, if that is given out too.
async fn find(
    app: &App,
    valid: &Arc<ValidPath>,
    names: &[Name],
    client: ClientId,
) -> Result<Option<(Found, Arc<ValidPath>)>, HandlerError> {
    let Some((found, within)) = app.store.find_file(valid, names, client).await? else { return Ok(None) };
    let serves = Arc::ptr_eq(&within, valid) || app.serves(&within, client).await?;
    Ok(serves.then_some((found, within)))
}

/// Our page of the directory, which is the one at `below` in `within`.
async fn page(
    app: &App,
    request: &Parts,
    place: &Place,
    valid: &ValidPath,
    (directory, below, within): (Directory, &Path, &ValidPath),
    slot: Permit,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    let shown = directory_page::Place { store: app.store.directory(), path: &valid.path, names: &place.names };
    let tag = shown.tag(&within.info.nar_hash, below);
    let (mut reply, encoding) = streamed(app.compression.as_ref(), request, Keep::AnHour, HTML, &tag);
    if reply.status() != StatusCode::OK || request.method == Method::HEAD {
        return Ok(reply);
    }
    let slots = vec![slot, app.files.large(client).await];
    let name = directory.path().clone();
    let page = tokio::task::block_in_place(|| {
        let names = directory.names()?;
        let page = Page::new(&shown, Arc::new(directory), names);
        if request.version <= Version::HTTP_10 {
            // Without a length or chunks its end looks like that of a page that was cut.
            let length =
                io::copy(&mut page.clone(), &mut io::sink()).map_err(|cause| StoreError::file(&name, &cause))?;
            set_length(&mut reply, length);
        }
        Ok::<_, StoreError>(page)
    })?;
    let body = match encoding {
        Some(encoding) => {
            let page = encoding.reader(page).map_err(|cause| StoreError::file(&name, &cause))?;
            FileBody::new(page, name, None, Arc::clone(app.files.reads()), slots)
        }
        None => FileBody::new(page, name, None, Arc::clone(app.files.reads()), slots),
    };
    Ok(reply.map(|_| Body::File(Box::new(body))))
}

/// To the same place with a slash, so that relative links in its page are right. Relative itself: proxies may have put
/// the cache anywhere.
fn slash_redirect(place: &Place) -> Reply {
    let last = place.names.last().map_or_else(|| place.root.to_string(), |name| encoded(name.as_bytes()));
    let mut reply = reply(StatusCode::MOVED_PERMANENTLY, Keep::AnHour, Body::empty());
    set_length(&mut reply, 0);
    if let Ok(location) = HeaderValue::from_str(&format!("./{last}/")) {
        set(&mut reply, LOCATION, location);
    }
    reply
}

/// The NAR and the place in it fix a file's bytes.
fn tag(nar_hash: &NarHash, below: &Path) -> HeaderValue {
    let text = [nar_hash.to_nix32().as_bytes(), b"/", below.as_os_str().as_bytes()].concat();
    etag(&data_encoding::HEXLOWER.encode(&digest(&SHA256, &text).as_ref()[..16]))
}

fn typed(mut reply: Reply, kind: &str) -> Reply {
    if reply.status().is_success() {
        if let Ok(kind) = HeaderValue::from_str(kind) {
            set(&mut reply, CONTENT_TYPE, kind);
        }
    }
    reply
}

/// By the extension of a name. Texts of Unix are UTF-8.
fn content_type(name: &[u8]) -> String {
    let extension = name.rsplit(|byte| *byte == b'.').next().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let guess = extension.filter(|it| it.len() < name.len()).and_then(|it| mime_guess::from_ext(it).first_raw());
    match guess {
        Some(kind) if kind.starts_with("text/") => format!("{kind}; charset=utf-8"),
        Some(kind) => kind.to_owned(),
        None => "application/octet-stream".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_the_extension_and_texts_are_utf_8() {
        for (name, kind) in [
            (&b"index.html"[..], HTML),
            (b"a.TXT", "text/plain; charset=utf-8"),
            (b"style.css", "text/css; charset=utf-8"),
            (b"logo.svg", "image/svg+xml"),
            (b"x.tar.gz", "application/gzip"),
            (b"html", "application/octet-stream"),
            (b"a.unknown-extension", "application/octet-stream"),
            (b"a.\xff", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), kind, "{}", name.escape_ascii());
        }
    }
}
