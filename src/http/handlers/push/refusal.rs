//! Responses to uploads that were refused or failed: a status, and one line, which `nix copy` prints.
//!
//! Nix tries a request again after 408, 429 and most of 5xx: five times within ten seconds, and since 2.35 after a 503 as long as
//! `Retry-After` says. It gives up at once after any other 4xx. So what passes by itself, such as a spool that is full of others'
//! files, is 503, and what does not is 4xx.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};

use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::{PLAIN_TEXT, set, text_response};
use crate::push::PushError;
use crate::push::spool::SpoolError;

/// Seconds after which there may be space, a free turn, or a disk that answers.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// A reason not to accept an upload.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    label: &'static str,
    text: Cow<'static, str>,
    /// The cause, for the log only.
    cause: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, label: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, label, text: text.into(), cause: None }
    }

    /// Adds what only the log says.
    pub(super) fn with_cause(self, cause: &impl ToString) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    pub(super) fn not_allowed(text: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "not_pushed", text)
    }

    pub(super) fn not_granted() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "not_granted",
            "you may not push to this cache: ask its operator for the right",
        )
    }

    pub(super) fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many uploads at once: try again later")
    }

    pub(super) fn idle() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "idle", "the upload stalled: try again")
    }

    pub(super) fn reclaimed() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "reclaimed",
            "the upload was slow while others waited: try again later",
        )
    }

    pub(super) fn broken_off(cause: &impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "broken_off", "the upload broke off").with_cause(cause)
    }

    pub(super) fn unsupported_coding() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_encoding",
            "the body has a Content-Encoding that this cache does not decode here: push without it",
        )
    }

    pub(super) fn too_long(what: &str, limit: u64) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("{what} has more than {limit} bytes"))
    }

    /// Converts the reason for which a path is not added.
    pub(super) fn from_push(error: &PushError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!("cannot add a pushed path: {error}");
        }
        Self::new(status, error.label(), error.line()).with_cause(error)
    }

    /// Returns the name in metrics.
    pub(super) const fn label(&self) -> &'static str {
        self.label
    }

    /// Returns the text for the log.
    pub(super) fn cause(&self) -> &str {
        self.cause.as_deref().unwrap_or(&self.text)
    }

    pub(super) fn response(&self) -> Response {
        let text = Bytes::from(format!("{}\n", self.text));
        let mut response = text_response(self.status, CacheControl::NoStore, PLAIN_TEXT, text);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            set(&mut response, RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            set(&mut response, ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        }
        response
    }
}

impl From<SpoolError> for Refusal {
    fn from(error: SpoolError) -> Self {
        let (status, label, help) = match &error {
            SpoolError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "raise the limit there"),
            SpoolError::OwnersSpace(_) => (StatusCode::SERVICE_UNAVAILABLE, "quota", "push fewer paths at once"),
            SpoolError::Space(_) | SpoolError::TooManyFiles => {
                (StatusCode::SERVICE_UNAVAILABLE, "spool_full", "try again later")
            }
            SpoolError::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full", "make space there"),
            SpoolError::WrongHash(_) => (StatusCode::BAD_REQUEST, "wrong_hash", "push again"),
            SpoolError::Io(_) => (StatusCode::SERVICE_UNAVAILABLE, "file_error", "try again later"),
        };
        let cause = match &error {
            SpoolError::Io(cause) => {
                tracing::warn!("cannot write an upload: {cause}");
                Some(cause.to_string())
            }
            _ => None,
        };
        Self { status, label, text: format!("{error}: {help}").into(), cause }
    }
}
