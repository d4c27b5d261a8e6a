//! Entries of the audit log. Made only if there is an audit log, and for nobody anonymous but those who are refused.

use std::sync::Arc;

use harmonia_protocol::HashPart;
use hyper::http::request::Parts;

use crate::access::{Granted, Principal};
use crate::audit_log::{AuditLog, AuditedRequest, Object};
use crate::fairness::Requester;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::handlers::push::Received;
use crate::http::request::request_id::REQUEST_ID;
use crate::http::response::body::Response;

/// Status of an upload without a response, as nginx has it: the client closed the connection.
const CLIENT_CLOSED: u16 = 499;

/// Entry of a response that has not ended.
pub(crate) struct AuditEntry {
    log: Arc<AuditLog>,
    request: AuditedRequest,
    status: u16,
    bytes: u64,
}

impl AuditEntry {
    /// Returns the request id in the entry.
    pub(crate) fn request_id(&self) -> &str {
        self.request.request_id()
    }

    /// Adds bytes that were sent.
    pub(crate) fn add_sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Records the entry.
    pub(crate) fn end(self) {
        self.log.read(self.request, self.status, self.bytes);
    }
}

/// Entry of an upload that has not ended. If it is dropped before that, the client has disconnected, and nobody knows what
/// nix-daemon made of the upload.
pub(crate) struct PushEntry<'a> {
    app: &'a App,
    log: &'a AuditLog,
    request: (&'a Parts, Option<HashPart>, &'a Requester),
    principal: &'a Principal,
    has_ended: bool,
}

impl PushEntry<'_> {
    /// Records an upload that was received or refused.
    pub(crate) fn end(mut self, received: &Received) {
        self.has_ended = true;
        let status = received.response.status().as_u16();
        let request = self.audited(Some(&received.response));
        match &received.refusal {
            None => self.log.pushed(request, status, received.bytes),
            Some(reason) => self.log.push_refused(request, status, received.bytes, reason),
        }
    }

    fn audited(&self, response: Option<&Response>) -> AuditedRequest {
        let (parts, hash, requester) = self.request;
        self.app.audited((parts, requester), self.principal, response, self.app.object(parts, hash))
    }
}

impl Drop for PushEntry<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.log.push_refused(self.audited(None), CLIENT_CLOSED, 0, "the client disconnected before the response");
        }
    }
}

impl App {
    /// Returns the audit log if what this principal reads is recorded in it.
    ///
    /// Fails if it cannot be recorded now, and the operator wants such requests refused.
    pub(crate) fn audit_log_for(&self, granted: &Granted) -> Result<Option<&Arc<AuditLog>>, HandlerError> {
        let Some(log) = &self.audit_log else { return Ok(None) };
        match granted.principal {
            Principal::Anonymous => Ok(None),
            _ if log.accepts_requests() => Ok(Some(log)),
            _ => Err(HandlerError::AuditLog),
        }
    }

    /// Returns the audit log if there is one: pushes are recorded, whoever they are from.
    ///
    /// Fails if they cannot be recorded now, and the operator wants such requests refused.
    pub(crate) fn audit_log_of_pushes(&self) -> Result<Option<&Arc<AuditLog>>, HandlerError> {
        match &self.audit_log {
            Some(log) if !log.accepts_requests() => Err(HandlerError::AuditLog),
            log => Ok(log.as_ref()),
        }
    }

    /// Returns the entry of an upload that begins.
    pub(crate) const fn push_entry<'a>(
        &'a self,
        log: &'a AuditLog,
        request: (&'a Parts, Option<HashPart>, &'a Requester),
        principal: &'a Principal,
    ) -> PushEntry<'a> {
        PushEntry { app: self, log, request, principal, has_ended: false }
    }

    /// Returns the entry of a response to a principal, to be recorded when its body has ended; `None` if it is an error, which tells
    /// nothing of the store.
    pub(crate) fn audit_entry(
        &self,
        log: &Arc<AuditLog>,
        (parts, hash, requester): (&Parts, Option<HashPart>, &Requester),
        principal: &Principal,
        response: &Response,
    ) -> Option<Box<AuditEntry>> {
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return None;
        }
        let request = self.audited((parts, requester), principal, Some(response), self.object(parts, hash));
        Some(Box::new(AuditEntry { log: Arc::clone(log), request, status: status.as_u16(), bytes: 0 }))
    }

    /// Records that a request was refused with this response, a 401 or 403, and why.
    ///
    /// Fails if it cannot be recorded now, and the operator wants such requests refused otherwise.
    pub(crate) fn record_refusal(
        &self,
        (parts, requester): (&Parts, &Requester),
        principal: &Principal,
        response: &Response,
        reason: &str,
    ) -> Result<(), HandlerError> {
        let Some(log) = &self.audit_log else { return Ok(()) };
        if !log.accepts_requests() {
            return Err(HandlerError::AuditLog);
        }
        let request = self.audited((parts, requester), principal, Some(response), Object::url(parts.uri.path()));
        log.refused(request, response.status().as_u16(), reason);
        Ok(())
    }

    fn object(&self, parts: &Parts, hash: Option<HashPart>) -> Object {
        match hash.and_then(|hash| self.store.cached_name(hash)) {
            Some(name) => Object::StorePath(format!("{}/{name}", self.store.directory()).into()),
            None => Object::url(parts.uri.path()),
        }
    }

    fn audited(
        &self,
        (parts, requester): (&Parts, &Requester),
        principal: &Principal,
        response: Option<&Response>,
        object: Object,
    ) -> AuditedRequest {
        let sent = response.and_then(|response| response.headers().get(REQUEST_ID)?.to_str().ok());
        let id = sent.map_or_else(|| self.request_id(parts, requester), str::to_owned);
        AuditedRequest::new(&principal.to_string(), requester.address(), object, &id)
    }
}
