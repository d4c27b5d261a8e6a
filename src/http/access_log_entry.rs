//! Entries of the access log, each written when its response has ended. Made only if there is an access log.

use std::sync::Arc;
use std::time::Instant;

use harmonia_protocol::HashPart;
use hyper::Version;
use hyper::header::USER_AGENT;
use hyper::http::request::Parts;

use crate::access::{Granted, Principal};
use crate::access_log::{AccessLog, Record};
use crate::fairness::Requester;
use crate::http::request::request_id::REQUEST_ID;
use crate::http::request::route::Route;
use crate::http::response::body::Response;
use crate::metrics::{AbortedBy, RequestNotes};
use crate::store::Store;

/// Entry of a response that has not ended.
pub(crate) struct AccessLogEntry {
    log: Arc<AccessLog>,
    record: Box<Record>,
    cache: Cache,
    path: Option<HashPart>,
    started: Instant,
}

/// The cache whose result an endpoint's entry names.
#[derive(Clone, Copy)]
enum Cache {
    PathInfo,
    Nar,
    None,
}

impl AccessLogEntry {
    /// Creates the entry of a request.
    pub(crate) fn start(log: &Arc<AccessLog>, head: &Parts, route: &Route, requester: &Requester) -> Self {
        let protocol = match head.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        };
        let path = head.uri.path().as_bytes();
        let mut record = Box::new(Record::new(requester.address(), head.method.as_str().as_bytes(), path, protocol));
        if let Some(agent) = head.headers.get(USER_AGENT) {
            record.set_user_agent(agent.as_bytes());
        }
        let cache = match route {
            Route::NarInfo { .. } => Cache::PathInfo,
            Route::Nar { .. } | Route::CompressedNar { .. } | Route::UploadedNar { .. } => Cache::Nar,
            _ => Cache::None,
        };
        Self { log: Arc::clone(log), record, cache, path: route.hash(), started: Instant::now() }
    }

    /// Adds the head of the response, and what was noted while it was made. `new_id` is called if it has no id.
    pub(crate) fn set_response(
        &mut self,
        response: &Response,
        notes: RequestNotes,
        store: &Store,
        new_id: impl FnOnce() -> String,
    ) {
        let record = &mut self.record;
        record.first_byte = self.started.elapsed();
        record.status = response.status().as_u16();
        record.reason = notes.reason;
        if let Some(granted) = response.extensions().get::<Arc<Granted>>() {
            if granted.principal != Principal::Anonymous {
                record.set_user(&granted.principal.to_string());
            }
        }
        record.cache = match self.cache {
            Cache::PathInfo => notes.path_info,
            Cache::Nar => notes.nar,
            Cache::None => None,
        };
        record.store_path = self.path.and_then(|hash| store.cached_name(hash));
        match response.headers().get(REQUEST_ID) {
            Some(id) => record.set_request_id(id.as_bytes()),
            None => record.set_request_id(new_id().as_bytes()),
        }
    }

    /// Adds bytes that were sent.
    pub(crate) fn add_sent(&mut self, bytes: u64) {
        self.record.bytes += bytes;
    }

    /// Writes the entry. `aborted` is set if the response ended early.
    pub(crate) fn end(mut self, aborted: Option<AbortedBy>) {
        self.record.total = self.started.elapsed();
        self.record.aborted_by = aborted.map(AbortedBy::label);
        self.log.record(self.record);
    }
}
