//! Dispatches the requests of the admin socket by method and path.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::limits::MAX_REQUEST;
use crate::config::Config;
use crate::http::App;
use crate::net::ConnectionLimiter;
use crate::process::log::RecentLines;

/// Length of lists unless the request says otherwise.
pub(super) const DEFAULT_LIMIT: usize = 10;

/// The state of the running server that admin requests use.
#[derive(Debug)]
pub(crate) struct Server {
    /// The state that requests of clients share.
    pub(crate) app: Arc<App>,
    /// The connections of clients.
    pub connection_limiter: Arc<ConnectionLimiter>,
    /// The configuration at the start.
    pub config: Config,
    /// The URLs on which it listens.
    pub listening: Vec<String>,
    /// The last errors and warnings in the log.
    pub recent: RecentLines,
    /// The time of its start.
    pub started: Instant,
}

/// The NAR cache directory of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheDirectory {
    /// The directory's path; `None` without a NAR cache.
    pub dir: Option<PathBuf>,
    /// Limit on the size of its files, in bytes.
    pub max_size: u64,
}

/// An error response.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// One line, and a help line if something can be done.
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: &dyn Display) -> Self {
        Self { status, message: message.to_string() }
    }
}

/// The JSON of a response, or an error response.
pub(super) type Answer = Result<Vec<u8>, Refusal>;

impl Server {
    /// Responds to one request.
    pub(super) async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let answer = match read(body).await {
            Ok(body) => self.answer(&head.method, head.uri.path(), head.uri.query(), &body).await,
            Err(refusal) => Err(refusal),
        };
        let (status, text) = match answer {
            Ok(text) => (StatusCode::OK, text),
            Err(Refusal { status, message }) => {
                (status, serde_json::json!({ "error": message }).to_string().into_bytes())
            }
        };
        let mut response = Response::new(Full::new(text.into()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Dispatches a request.
    async fn answer(&self, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Answer {
        match (method, path) {
            (&Method::GET, "/status") => json(&self.status(limit(query)?).await),
            (&Method::GET, "/path") => json(&self.path(&text(query)?).await?),
            (&Method::GET, "/cache") => json(&self.cache_directory()),
            (&Method::POST, "/cache/closure") => json(&self.closure(&parse(body)?).await?),
            (&Method::POST, "/cache/make") => json(&self.warm(&parse::<String>(body)?).await?),
            (&Method::POST, "/cache/warm") => json(&self.enqueue_warm(&parse(body)?).await?),
            (&Method::POST, "/cache/remove") => json(&self.remove(&parse(body)?).await?),
            (&Method::GET, "/pins") => json(&self.pins().await?),
            (&Method::POST, "/pins/add") => json(&self.pin(parse(body)?).await?),
            (&Method::POST, "/pins/remove") => json(&self.unpin(&parse::<String>(body)?).await?),
            (&Method::POST, "/bucket/publish") => json(&self.publish(&parse::<Vec<String>>(body)?)?),
            (&Method::POST, "/bucket/published") => json(&self.publish_progress(parse(body)?).await?),
            (&Method::GET, "/bucket/publishing") => json(&self.publishing()?),
            (&Method::GET, "/hidden") => json(&self.app.store().hidden()),
            (&Method::POST, "/hidden/add") => json(&self.hide(parse(body)?).await?),
            (&Method::POST, "/hidden/remove") => json(&self.unhide(&parse::<String>(body)?).await?),
            _ => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                &format_args!("harmonia {} has no admin request {method} {path}", env!("CARGO_PKG_VERSION")),
            )),
        }
    }

    fn cache_directory(&self) -> CacheDirectory {
        let cache = self.config.nar_cache.as_ref();
        CacheDirectory {
            dir: cache.map(|cache| cache.dir.clone()),
            max_size: cache.map_or(0, |cache| cache.max_size.bytes()),
        }
    }
}

/// Parses the length of lists: `limit=20`.
fn limit(query: Option<&str>) -> Result<usize, Refusal> {
    let Some(query) = query else { return Ok(DEFAULT_LIMIT) };
    let limit = query.strip_prefix("limit=").and_then(|limit| limit.parse().ok());
    limit.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, &format_args!("{query:?} is not limit=NUMBER")))
}

/// Parses the path that a request is about: `of=TEXT`, percent-encoded.
fn text(query: Option<&str>) -> Result<Cow<'_, str>, Refusal> {
    let text = query.and_then(|query| query.strip_prefix("of="));
    let decoded = text.and_then(|text| percent_decode_str(text).decode_utf8().ok());
    decoded.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, &"the query is not of=PATH"))
}

/// Reads a request's body of up to [`MAX_REQUEST`] bytes.
async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let too_large = |cause: &dyn Display| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, cause);
    if body.size_hint().lower() > MAX_REQUEST as u64 {
        return Err(too_large(&format_args!("a request has at most {MAX_REQUEST} bytes")));
    }
    let read = Limited::new(body, MAX_REQUEST).collect().await;
    read.map(Collected::to_bytes).map_err(|cause| too_large(&cause))
}

/// Renders a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Answer {
    serde_json::to_vec(value).map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &error))
}

/// Parses the JSON of a request's body.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &error))
}
