//! The requests of the admin socket, from method and path to an answer in JSON.

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

use super::MAX_REQUEST;
use crate::config::Config;
use crate::http::App;
use crate::net::Places;
use crate::process::log::RecentLines;

/// Entries of a list that are told unless another number is asked for.
pub(super) const DEFAULT_LIMIT: usize = 10;

/// The running server, as requests at the admin socket see it.
#[derive(Debug)]
pub struct Server {
    /// Everything that requests of clients share.
    pub(crate) app: Arc<App>,
    /// The connections of clients.
    pub places: Arc<Places>,
    /// The configuration at the start.
    pub config: Config,
    /// The URLs that it listens on.
    pub listening: Vec<String>,
    /// The last errors and warnings of the log.
    pub recent: RecentLines,
    /// The time of its start.
    pub began: Instant,
}

/// The directory of compressed NARs of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDirectory {
    /// The directory's path; nothing if the server keeps no compressed NARs.
    pub dir: Option<PathBuf>,
    /// Bytes that the files in it may take.
    pub max_size: u64,
}

/// A request that is not done, and why, for whoever asked.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// A line, with a help line where there is something to do.
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: &dyn Display) -> Self {
        Self { status, message: message.to_string() }
    }
}

/// The text of an answer, or why there is none.
pub(super) type Answer = Result<Vec<u8>, Refusal>;

impl Server {
    /// Answers one request.
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

    /// Every request that there is.
    async fn answer(&self, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Answer {
        match (method, path) {
            (&Method::GET, "/status") => json(&self.status(limit(query)?).await),
            (&Method::GET, "/path") => json(&self.path(&text(query)?).await?),
            (&Method::GET, "/cache") => json(&self.cache_directory()),
            (&Method::POST, "/cache/closure") => json(&self.closure(&parse(body)?).await?),
            (&Method::POST, "/cache/make") => json(&self.make(&parse::<String>(body)?).await?),
            (&Method::POST, "/cache/warm") => json(&self.hand_over(&parse(body)?).await?),
            (&Method::POST, "/cache/remove") => json(&self.remove(&parse(body)?).await?),
            _ => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                &format_args!("harmonia {} has no request {method} {path}", env!("CARGO_PKG_VERSION")),
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

/// The number of entries of a list that are wanted: `limit=20`.
fn limit(query: Option<&str>) -> Result<usize, Refusal> {
    let Some(query) = query else { return Ok(DEFAULT_LIMIT) };
    let limit = query.strip_prefix("limit=").and_then(|limit| limit.parse().ok());
    limit.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, &format_args!("{query:?} is not limit=NUMBER")))
}

/// The path that is asked about: `of=TEXT`, percent-encoded.
fn text(query: Option<&str>) -> Result<Cow<'_, str>, Refusal> {
    let text = query.and_then(|query| query.strip_prefix("of="));
    let decoded = text.and_then(|text| percent_decode_str(text).decode_utf8().ok());
    decoded.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, &"the query is not of=PATH"))
}

/// Reads a request's body, up to a bound.
async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let too_large = |cause: &dyn Display| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, cause);
    if body.size_hint().lower() > MAX_REQUEST as u64 {
        return Err(too_large(&format_args!("a request has at most {MAX_REQUEST} bytes")));
    }
    let read = Limited::new(body, MAX_REQUEST).collect().await;
    read.map(Collected::to_bytes).map_err(|cause| too_large(&cause))
}

/// The text of a value.
pub(super) fn json(value: &impl Serialize) -> Answer {
    serde_json::to_vec(value).map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &error))
}

/// The value that a request's body has.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &error))
}
