//! Events that are recorded.

use std::net::IpAddr;
use std::time::SystemTime;

use crate::log_lines::escaped;

/// Maximum length of the URL in a line, in bytes.
const MAX_URL: usize = 512;
/// Maximum length of a reason in a line, in bytes.
const MAX_REASON: usize = 512;
/// Maximum length of a principal in a line, in characters.
const MAX_PRINCIPAL: usize = 512;

/// Target of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    /// A store path with its store directory.
    StorePath(Box<str>),
    /// Path of a URL, without a query.
    Url(Box<str>),
}

impl Object {
    /// Returns the object at this path of a URL, which must be without a query.
    #[must_use]
    pub(crate) fn url(path: &str) -> Self {
        Self::Url(escaped(path.as_bytes(), MAX_URL).into())
    }
}

/// A request as the audit log records it.
#[derive(Debug, Clone)]
pub(crate) struct AuditedRequest {
    pub(super) principal: Box<str>,
    pub(super) address: Option<IpAddr>,
    pub(super) object: Object,
    pub(super) request_id: Box<str>,
}

impl AuditedRequest {
    /// Creates the request of a principal, such as `user:alice` or `anonymous`, from this address or on a Unix socket.
    #[must_use]
    pub(crate) fn new(principal: &str, address: Option<IpAddr>, object: Object, request_id: &str) -> Self {
        let principal = principal.chars().take(MAX_PRINCIPAL).collect::<String>().into();
        Self {
            principal,
            address: address.map(|address| address.to_canonical()),
            object,
            request_id: request_id.into(),
        }
    }

    /// Returns the request id.
    #[must_use]
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }
}

/// Kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Start,
    Stop,
    Reload,
    Read,
    Refused,
    Push,
    PushRefused,
}

impl Kind {
    /// Returns the name in a line.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reload => "reload",
            Self::Read => "read",
            Self::Refused => "refused",
            Self::Push => "push",
            Self::PushRefused => "push_refused",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) at: SystemTime,
    /// The request and how it ended; `None` for an event of the program.
    pub(super) response: Option<Response>,
}

/// A request and how it ended.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) request: AuditedRequest,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) reason: Option<Box<str>>,
}

impl Event {
    /// Creates an event of the program.
    pub(super) fn of_program(kind: Kind) -> Self {
        Self { kind, at: SystemTime::now(), response: None }
    }

    /// Creates the event of a request that ended with this status, number of bytes and reason.
    pub(super) fn of_request(
        kind: Kind,
        request: AuditedRequest,
        status: u16,
        bytes: u64,
        reason: Option<&str>,
    ) -> Self {
        let reason = reason.map(|reason| escaped(reason.as_bytes(), MAX_REASON).into());
        Self { kind, at: SystemTime::now(), response: Some(Response { request, status, bytes, reason }) }
    }
}
