//! Failures of requests to the object store: what happened, whether it passes by waiting, and what to do about it.

use std::error::Error;
use std::fmt;

use super::answer::Answer;

/// Longest cause that is repeated, in characters.
const MAX_MESSAGE: usize = 300;

/// Kind of a request; the label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// PUT of an object.
    Put,
    /// Any request of a multipart upload.
    Multipart,
    /// GET of an object.
    Get,
    /// HEAD of an object.
    Head,
    /// LIST of names.
    List,
    /// DELETE of an object.
    Delete,
}

impl Operation {
    /// Returns the label in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Multipart => "multipart",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Multipart => "upload",
            Self::Get => "get",
            Self::Head => "look up",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// Class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// There is no such object.
    NotFound,
    /// There is one already, and it was to be created.
    Exists,
    /// The server asks for fewer requests.
    SlowDown,
    /// The server is not there, does not answer in time, or has an error of its own.
    Unavailable,
    /// The access key does not suffice, or is wrong.
    Denied,
    /// The server lacks the operation.
    Unsupported,
    /// Anything else: it does not pass by itself.
    Other,
}

impl FailureKind {
    /// Returns the label in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::SlowDown => "slow_down",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Other => "error",
        }
    }

    /// Returns whether another attempt may succeed.
    pub(crate) const fn may_pass(self) -> bool {
        matches!(self, Self::SlowDown | Self::Unavailable)
    }
}

/// A request that failed.
#[derive(Debug, Clone)]
pub(crate) struct BucketError {
    pub(crate) kind: FailureKind,
    operation: Operation,
    object: String,
    cause: String,
    /// Code of S3, such as `NoSuchBucket`.
    code: Option<String>,
}

impl BucketError {
    /// Creates the error of a request that was not answered in time.
    pub(crate) fn timeout(operation: Operation, object: String) -> Self {
        let cause = "no answer in time".to_owned();
        Self { kind: FailureKind::Unavailable, operation, object, cause, code: None }
    }

    /// Creates an error that is not of the server.
    pub(crate) fn other(operation: Operation, object: String, cause: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Other, operation, object, cause: cause.to_string(), code: None }
    }

    /// Creates the error of a server that asked for fewer requests, and is not asked now.
    pub(super) fn slow_down(operation: Operation, object: String) -> Self {
        let cause = "the server has asked for fewer requests".to_owned();
        Self { kind: FailureKind::SlowDown, operation, object, cause, code: None }
    }

    /// Classifies an error of `object_store`, by what the server answered if it did.
    pub(super) fn of(
        operation: Operation,
        object: String,
        error: &object_store::Error,
        answer: Option<Answer>,
    ) -> Self {
        let Some(Answer { status, code, message }) = answer else {
            let kind = kind_of(error);
            return Self { kind, operation, object, cause: one_line(&root_cause(error)), code: None };
        };
        let kind = match (status, code.as_deref()) {
            (429, _) | (_, Some("SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" | "TooManyRequests")) => {
                FailureKind::SlowDown
            }
            // 409 is a race with another writer, after which the object may not be there.
            (408 | 409 | 500 | 502 | 503 | 504, _) | (_, Some("InternalError" | "RequestTimeout")) => {
                FailureKind::Unavailable
            }
            (501, _) => FailureKind::Unsupported,
            (401 | 403, _) => FailureKind::Denied,
            // A bucket that is not there is no answer about an object.
            (404, Some("NoSuchBucket")) => FailureKind::Other,
            _ => kind_of(error),
        };
        let cause = match (&code, message) {
            (Some(code), Some(message)) => format!("{status} {code}: {message}"),
            (Some(code), None) => format!("{status} {code}"),
            (None, _) => format!("status {status}"),
        };
        Self { kind, operation, object, cause, code }
    }

    fn help(&self) -> Option<&'static str> {
        match self.code.as_deref() {
            Some("RequestTimeTooSkewed") => Some("set the clock of this machine"),
            Some("InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
                Some("check the access key in bucket.credentials_file, and bucket.region")
            }
            Some("NoSuchBucket") => Some("create the bucket, or correct bucket.url"),
            Some("AccessDenied") => Some("allow this access key to get, put, list and delete objects of the bucket"),
            _ => None,
        }
    }
}

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation.verb(), self.object, self.cause)?;
        self.help().map_or(Ok(()), |help| write!(f, "\n  help: {help}"))
    }
}

impl Error for BucketError {}

fn kind_of(error: &object_store::Error) -> FailureKind {
    use object_store::Error::{
        AlreadyExists, NotFound, NotImplemented, NotModified, NotSupported, PermissionDenied, Precondition,
        Unauthenticated,
    };
    match error {
        NotFound { .. } => FailureKind::NotFound,
        AlreadyExists { .. } | Precondition { .. } | NotModified { .. } => FailureKind::Exists,
        NotSupported { .. } | NotImplemented { .. } => FailureKind::Unsupported,
        PermissionDenied { .. } | Unauthenticated { .. } => FailureKind::Denied,
        error if is_interrupted(error) => FailureKind::Unavailable,
        _ => FailureKind::Other,
    }
}

fn chain(error: &object_store::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error| (*error).source())
}

/// Returns whether there was no connection, or it broke within an answer.
fn is_interrupted(error: &object_store::Error) -> bool {
    chain(error).any(<dyn Error>::is::<object_store::client::HttpError>)
}

/// Returns the last error of the chain, which says what happened; the others say to whom.
fn root_cause(error: &object_store::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_without_an_answer_are_classified_by_their_type() {
        let source = || "x".into();
        let path = || "p".to_owned();
        for (error, kind) in [
            (object_store::Error::NotFound { path: path(), source: source() }, FailureKind::NotFound),
            (object_store::Error::AlreadyExists { path: path(), source: source() }, FailureKind::Exists),
            (object_store::Error::PermissionDenied { path: path(), source: source() }, FailureKind::Denied),
            (object_store::Error::NotSupported { source: source() }, FailureKind::Unsupported),
            (object_store::Error::Generic { store: "s", source: source() }, FailureKind::Other),
        ] {
            let error = BucketError::of(Operation::Put, "nar/x".into(), &error, None);
            assert_eq!((error.kind, error.to_string()), (kind, "cannot put nar/x: x".to_owned()));
        }
    }

    #[test]
    fn answers_are_classified_by_status_and_code() {
        let error = object_store::Error::Generic { store: "s", source: "x".into() };
        for (status, code, kind) in [
            (503, "SlowDown", FailureKind::SlowDown),
            (200, "SlowDown", FailureKind::SlowDown),
            (429, "", FailureKind::SlowDown),
            (503, "", FailureKind::Unavailable),
            (409, "ConditionalRequestConflict", FailureKind::Unavailable),
            (501, "NotImplemented", FailureKind::Unsupported),
            (403, "AccessDenied", FailureKind::Denied),
            (404, "NoSuchBucket", FailureKind::Other),
            (400, "", FailureKind::Other),
        ] {
            let code = Some(code.to_owned()).filter(|code| !code.is_empty());
            let answer = Answer { status, code, message: None };
            assert_eq!(BucketError::of(Operation::Put, "x".into(), &error, Some(answer)).kind, kind, "{status}");
        }
    }
}
