//! Files of other caches, got by plain HTTP: no signatures, but redirects.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt as _};
use hyper::header::{ACCEPT, CONTENT_LENGTH, HeaderValue, LOCATION, RANGE};
use hyper::{HeaderMap, Method, Uri};
use object_store::client::{HttpError, HttpRequest, HttpRequestBody};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::failure::{BucketError, FailureKind, Operation};
use super::http_client::Http;
use super::kind::OpenError;
use super::pace::backoff;
use crate::client_tls::system_roots;
use crate::config::HttpUrl;

/// Upper bound of the time until the head of a response, per request.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
const ATTEMPTS: u32 = 5;
/// Upper bound of a file that is read whole, in bytes.
const MAX_SMALL: usize = 64 << 10;
/// Requests at a time until their heads.
const MAX_REQUESTS: usize = 24;

/// Another cache, by its URL.
#[derive(Debug)]
pub(crate) struct WebCache {
    http: Http,
    base: HttpUrl,
    requests: Semaphore,
}

/// Body of a file. It ends in an error, never cleanly, unless all bytes came that its head announced.
pub(crate) struct WebBody {
    url: String,
    /// Bytes to come, if the head says so.
    left: Option<u64>,
    bytes: BoxStream<'static, Result<Bytes, HttpError>>,
}

/// Result of one request.
enum Answer {
    Body(WebBody),
    Absent,
    Redirect(String),
}

impl WebCache {
    /// Creates a client, without a request. Reads the certificate authorities: blocks on the disk.
    pub(crate) fn new(base: HttpUrl) -> Result<Self, OpenError> {
        // A redirect may lead to https.
        let roots = system_roots();
        let roots = if base.is_tls() { Some(roots.map_err(OpenError::Roots)?) } else { roots.ok() };
        let http = Http::new(roots, None).map_err(OpenError::Roots)?;
        Ok(Self { http, base, requests: Semaphore::new(MAX_REQUESTS) })
    }

    /// Gets a part of a small file as clients do; all of it if the server sends no parts.
    pub(crate) async fn get_part(&self, url: &str, part: Range<u64>) -> Result<Bytes, BucketError> {
        let mut whole = BytesMut::new();
        if let Answer::Body(mut body) = self.request(url, Some(part)).await? {
            while let Some(bytes) = body.next().await? {
                whole.extend_from_slice(&bytes);
                if whole.len() > MAX_SMALL {
                    return Err(failed(url, &format_args!("more than {MAX_SMALL} bytes")));
                }
            }
            return Ok(whole.freeze());
        }
        Err(failed(url, &"no object and no error"))
    }

    /// Gets a file by its URL, which is relative to that of the cache unless it has a scheme; `None` if there is none.
    pub(crate) async fn get(&self, url: &str) -> Result<Option<WebBody>, BucketError> {
        let mut url = resolve(&format!("{}/", self.base), url).ok_or_else(|| failed(url, &"not a URL"))?;
        for _ in 0..=MAX_REDIRECTS {
            match self.attempts(&url).await? {
                Answer::Body(body) => return Ok(Some(body)),
                Answer::Absent => return Ok(None),
                Answer::Redirect(to) => {
                    let target = resolve(&url, &to).ok_or_else(|| failed(&url, &"a redirect to what is not a URL"))?;
                    if url.starts_with("https:") && !target.starts_with("https:") {
                        return Err(failed(&url, &"a redirect from https to http"));
                    }
                    url = target;
                }
            }
        }
        Err(failed(&url, &format_args!("more than {MAX_REDIRECTS} redirects")))
    }

    async fn attempts(&self, url: &str) -> Result<Answer, BucketError> {
        let mut attempt = 1;
        loop {
            match self.request(url, None).await {
                Err(error) if error.kind.may_pass() && attempt < ATTEMPTS => {
                    tracing::debug!("attempt {attempt}: {error}");
                    sleep(backoff(attempt)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn request(&self, url: &str, part: Option<Range<u64>>) -> Result<Answer, BucketError> {
        let uri: Uri = url.parse().map_err(|cause| failed(url, &cause))?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(Range { start, end }) = part {
            let range = HeaderValue::from_str(&format!("bytes={start}-{}", end.saturating_sub(1)));
            request.headers_mut().insert(RANGE, range.map_err(|cause| failed(url, &cause))?);
        }
        let _permit = self.requests.acquire().await;
        let response = match timeout(HEAD_TIME, self.http.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(cause)) => return Err(passing(url, &root_cause(&cause))),
            Err(_) => return Err(passing(url, &"no answer in time")),
        };
        let status = response.status().as_u16();
        match status {
            200 | 206 => {
                let (head, body) = response.into_parts();
                Ok(Answer::Body(WebBody { url: url.into(), left: length(&head.headers), bytes: body.bytes_stream() }))
            }
            301 | 302 | 303 | 307 | 308 => {
                let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                to.map(|to| Answer::Redirect(to.into())).ok_or_else(|| failed(url, &"a redirect without a target"))
            }
            404 | 410 => Ok(Answer::Absent),
            408 | 429 | 500 | 502 | 503 | 504 => Err(passing(url, &format_args!("status {status}"))),
            _ => Err(failed(url, &format_args!("status {status}"))),
        }
    }
}

impl WebBody {
    /// Returns the next bytes; `None` after the last ones.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        match self.bytes.next().await {
            Some(Ok(bytes)) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Ok(Some(bytes))
            }
            Some(Err(cause)) => Err(passing(&self.url, &root_cause(&cause))),
            None if self.left.is_some_and(|left| left > 0) => Err(passing(&self.url, &"it ends too early")),
            None => Ok(None),
        }
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Creates an error that another attempt does not change.
fn failed(url: &str, cause: &dyn std::fmt::Display) -> BucketError {
    BucketError::other(Operation::Get, url.to_owned(), cause)
}

/// Creates an error that may pass.
fn passing(url: &str, cause: &dyn std::fmt::Display) -> BucketError {
    let mut error = failed(url, cause);
    error.kind = FailureKind::Unavailable;
    error
}

fn root_cause(error: &HttpError) -> String {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| (*error).source()).last().map(ToString::to_string).unwrap_or_default()
}

/// Returns the URL that a reference means below another URL, without its fragment.
fn resolve(base: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next()?;
    if reference.starts_with("https://") || reference.starts_with("http://") {
        return Some(reference.to_owned());
    }
    let (scheme, rest) = base.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(elsewhere) = reference.strip_prefix("//") {
        return Some(format!("{scheme}://{elsewhere}"));
    }
    if reference.starts_with('/') {
        return Some(format!("{scheme}://{authority}{reference}"));
    }
    // Another scheme.
    if reference.split('/').next()?.contains(':') {
        return None;
    }
    let path = path.split('?').next()?;
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let slash = if folder.is_empty() { "" } else { "/" };
    Some(format!("{scheme}://{authority}/{folder}{slash}{reference}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_browsers_do() {
        for (base, reference, expected) in [
            ("https://a.example/", "nar/x.nar?hash=1", Some("https://a.example/nar/x.nar?hash=1")),
            ("https://a.example/sub/", "x.narinfo", Some("https://a.example/sub/x.narinfo")),
            ("https://a.example/sub/x?y=/z", "w", Some("https://a.example/sub/w")),
            ("https://a.example/sub/x", "/w", Some("https://a.example/w")),
            ("https://a.example:1/x", "//b.example/w", Some("https://b.example/w")),
            ("http://a.example/x", "https://b.example/w#f", Some("https://b.example/w")),
            ("http://a.example/x", "file:///etc/passwd", None),
        ] {
            assert_eq!(resolve(base, reference).as_deref(), expected, "{base} {reference}");
        }
    }
}
