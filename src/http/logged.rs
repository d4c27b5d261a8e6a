//! Entries of the access log: what a request and its response come to, written when the response has ended.
//!
//! Nothing of this is done where there is no access log.

use std::sync::Arc;
use std::time::Instant;

use harmonia_protocol::HashPart;
use hyper::Version;
use hyper::header::{HeaderMap, USER_AGENT};
use hyper::http::request::Parts;

use super::response::{REQUEST_ID, Reply};
use super::route::{Place, Root, Route};
use crate::access_log::{AccessLog, MAX_REQUEST_ID, Record};
use crate::fairness::Requester;
use crate::metrics::{AbortedBy, Notes};
use crate::store::Store;

/// The entry of a response that has not ended yet.
pub(super) struct Entry {
    log: Arc<AccessLog>,
    record: Box<Record>,
    cache: Cache,
    path: Option<HashPart>,
    began: Instant,
}

/// The cache that an endpoint has.
#[derive(Clone, Copy)]
enum Cache {
    PathInfo,
    Nar,
    None,
}

impl Entry {
    pub(super) fn open(log: &Arc<AccessLog>, head: &Parts, route: &Route, reader: &Requester) -> Self {
        let protocol = match head.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        };
        let path = head.uri.path().as_bytes();
        let mut record = Box::new(Record::new(reader.address(), head.method.as_str().as_bytes(), path, protocol));
        if let Some(agent) = head.headers.get(USER_AGENT) {
            record.set_user_agent(agent.as_bytes());
        }
        let cache = match route {
            Route::NarInfo { .. } => Cache::PathInfo,
            Route::Nar { .. } | Route::CompressedNar { .. } => Cache::Nar,
            _ => Cache::None,
        };
        Self { log: Arc::clone(log), record, cache, path: hash_part(route), began: Instant::now() }
    }

    /// Enters the head of the response, of which these notes were taken. `new_id` is for one that has no id yet.
    pub(super) fn answered(&mut self, reply: &Reply, notes: Notes, store: &Store, new_id: impl FnOnce() -> String) {
        let record = &mut self.record;
        record.first_byte = self.began.elapsed();
        record.status = reply.status().as_u16();
        record.reason = notes.reason;
        record.cache = match self.cache {
            Cache::PathInfo => notes.path_info,
            Cache::Nar => notes.nar,
            Cache::None => None,
        };
        record.store_path = self.path.and_then(|hash| store.cached_name(hash));
        match reply.headers().get(REQUEST_ID) {
            Some(id) => record.set_request_id(id.as_bytes()),
            None => record.set_request_id(new_id().as_bytes()),
        }
    }

    /// Adds bytes that were sent.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.record.bytes += bytes;
    }

    /// Writes the entry of a response that has ended, early by the fault of one or as it should.
    pub(super) fn end(mut self, aborted: Option<AbortedBy>) {
        self.record.whole = self.began.elapsed();
        self.record.aborted_by = aborted.map(AbortedBy::label);
        self.log.enter(self.record);
    }
}

/// The store path that a request is about, where its URL has the hash part.
const fn hash_part(route: &Route) -> Option<HashPart> {
    match route {
        Route::NarInfo { hash, .. }
        | Route::Listing { hash }
        | Route::Nar { hash, .. }
        | Route::CompressedNar { hash, .. }
        | Route::BuildLog { hash }
        | Route::Serve(Place { root: Root::Path(hash), .. }) => Some(*hash),
        _ => None,
    }
}

/// The id that a reverse proxy has given a request, if it is one of 64 letters, digits, dots, hyphens and underscores at the
/// most. From others it would be a way to write into our logs what is not ours.
pub(super) fn id_of_proxy(headers: &HeaderMap, reader: &Requester) -> Option<String> {
    let id = headers.get(REQUEST_ID).filter(|_| reader.is_proxied())?.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ((1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(is_plain)).then(|| id.to_owned())
}
