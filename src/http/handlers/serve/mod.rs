//! `/serve/…`: the files of a valid path, for browsers, where the store is visible here.
//!
//! These files come from builds that may be hostile, and share the cache's origin. So every response makes browsers respect its
//! media type, and puts documents into a sandbox (CSP): no script runs, no form is sent, nothing is loaded from elsewhere,
//! and no other site may frame it.

mod directory_page;

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::Name;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use ring::digest::{SHA256, digest};

use crate::fairness::Permit;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::handlers::regular_file;
use crate::http::html::page::HTML;
use crate::http::links::encode_segment;
use crate::http::request::context::RequestCx;
use crate::http::request::route::{ServePath, ServeRoot};
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::etag::etag;
use crate::http::response::file_body::FileBody;
use crate::http::response::headers::{set, set_content_length, set_nosniff};
use crate::http::response::status::redirect;
use crate::http::response::text::streamed_text;
use crate::store::{Directory, Found, FoundObject, StoreError, ValidPath};
use directory_page::{DirectoryPage, Shown};

const POLICY: HeaderValue = HeaderValue::from_static(
    "sandbox allow-downloads; default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const INDEX: &[u8] = b"index.html";

/// Answers with the file or the page of the directory at this path.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, requested: &ServePath) -> Result<Response, HandlerError> {
    let valid = match &requested.root {
        ServeRoot::Path(hash) => app.valid_path(*hash, cx).await?,
        ServeRoot::Nar(nar_hash) => app.path_with_nar(nar_hash, cx).await?,
    };
    let permit = app.io_limits.open_file(cx.client).await;
    let found = find(app, &valid, &requested.names, cx).await?;
    let (Found { below, object, .. }, within) = found.ok_or(NotFound::NoFile)?;
    match object {
        FoundObject::File(_) if requested.has_slash => Err(NotFound::NoFile.into()),
        FoundObject::File(file) => {
            let name = requested.names.last().map_or(valid.path.name().as_bytes(), Name::as_bytes);
            let tag = file_etag(&within.info.nar_hash, &below);
            let response = regular_file::respond(app, cx, file, tag, CacheControl::OneHour, permit)?;
            Ok(with_media_type(response, &media_type(name)))
        }
        FoundObject::Directory(_) if !requested.has_slash => Ok(redirect_to_slash(requested)),
        FoundObject::Directory(directory) => {
            let index: Vec<_> = requested.names.iter().cloned().chain(Name::new(INDEX)).collect();
            if let Some((Found { below, object: FoundObject::File(file), .. }, within)) =
                find(app, &valid, &index, cx).await?
            {
                let tag = file_etag(&within.info.nar_hash, &below);
                let response = regular_file::respond(app, cx, file, tag, CacheControl::OneHour, permit)?;
                return Ok(with_media_type(response, HTML));
            }
            let shown = Shown { store: app.store.directory(), path: &valid.path, names: &requested.names };
            directory_response(app, cx, &shown, (directory, &below, &within), permit).await
        }
    }
}

/// Sets the headers that all responses below `/serve/` have, errors included.
pub(crate) fn protect(response: &mut Response) {
    set_nosniff(response);
    set(response, CONTENT_SECURITY_POLICY, POLICY);
}

/// Finds a file or directory, and the path that it is in, if the client sees that and it is served too.
async fn find(
    app: &App,
    valid: &Arc<ValidPath>,
    names: &[Name],
    cx: RequestCx<'_>,
) -> Result<Option<(Found, Arc<ValidPath>)>, HandlerError> {
    let known = app.known_sight(cx);
    let mut found = app.store.find_file(valid, names, |hash| known.sees(hash), cx.client).await?;
    if found.is_none() && !known.is_unlimited() {
        let sight = app.sight(cx).await?;
        found = app.store.find_file(valid, names, |hash| sight.sees(hash), cx.client).await?;
    }
    let Some((found, within)) = found else { return Ok(None) };
    let serves = Arc::ptr_eq(&within, valid) || app.serves(&within, cx.client).await?;
    Ok(serves.then_some((found, within)))
}

/// Answers with the page of the directory at `below` in `within`.
async fn directory_response(
    app: &App,
    cx: RequestCx<'_>,
    shown: &Shown<'_>,
    (directory, below, within): (Directory, &Path, &ValidPath),
    permit: Permit,
) -> Result<Response, HandlerError> {
    let tag = shown.tag(&within.info.nar_hash, below);
    let (mut response, compression) = streamed_text(app.compressor.as_ref(), cx, CacheControl::OneHour, HTML, &tag);
    if response.status() != StatusCode::OK || cx.is_head() {
        return Ok(response);
    }
    let permits = vec![permit, app.io_limits.large_body(cx.client).await];
    let name = directory.path().clone();
    let page = tokio::task::block_in_place(|| {
        let names = directory.names()?;
        let page = DirectoryPage::new(shown, Arc::new(directory), names);
        if cx.needs_content_length() {
            let length = io::copy(&mut page.clone(), &mut io::sink());
            set_content_length(&mut response, length.map_err(|cause| StoreError::file(&name, &cause))?);
        }
        Ok::<_, StoreError>(page)
    })?;
    let reads = Arc::clone(app.io_limits.reads());
    let body = match compression {
        Some(compression) => {
            let page = compression.reader(page).map_err(|cause| StoreError::file(&name, &cause))?;
            FileBody::new(page, name, None, reads, permits)
        }
        None => FileBody::new(page, name, None, reads, permits),
    };
    Ok(response.map(|_| Body::File(Box::new(body))))
}

/// Redirects to the same directory with a slash, which the relative links in its page need.
fn redirect_to_slash(requested: &ServePath) -> Response {
    let last = requested.names.last();
    let last = last.map_or_else(|| requested.root.to_string(), |name| encode_segment(name.as_bytes()));
    redirect(StatusCode::MOVED_PERMANENTLY, CacheControl::OneHour, &format!("./{last}/"))
}

/// Returns the entity tag of a file: the NAR and the path in it determine the bytes.
fn file_etag(nar_hash: &NarHash, below: &Path) -> HeaderValue {
    let text = [nar_hash.to_nix32().as_bytes(), b"/", below.as_os_str().as_bytes()].concat();
    etag(&data_encoding::HEXLOWER.encode(&digest(&SHA256, &text).as_ref()[..16]))
}

fn with_media_type(mut response: Response, media_type: &str) -> Response {
    if response.status().is_success() {
        if let Ok(media_type) = HeaderValue::from_str(media_type) {
            set(&mut response, CONTENT_TYPE, media_type);
        }
    }
    response
}

/// Returns the media type by the extension of a name. Text is taken for UTF-8.
fn media_type(name: &[u8]) -> String {
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
    fn media_types_follow_the_extension_and_text_is_utf_8() {
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
            assert_eq!(media_type(name), kind, "{}", name.escape_ascii());
        }
    }
}
