//! The object store: requests with a name, a limit and a time, tried again where that may help.
//!
//! Owns attempts, time limits, the number of requests at a time, and their metrics; `object_store` is not named elsewhere.
//! Correctness never depends on conditional puts or on listings being up to date: some servers ignore the former, and the
//! latter lag.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use hyper::Method;
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{Attribute, GetOptions, GetRange, ObjectMeta, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::answer::noting;
use super::failure::{BucketError, FailureKind, Operation};
use super::kind::Engine;
use super::object_body::ObjectBody;
use super::pace::{Pace, backoff};
use super::patience::{Patience, REQUEST_TIME};
use crate::bucket::object_name::{GcObject, ObjectName};
use crate::metrics::Metrics;

/// Requests at a time for which nobody waits. Each has a connection, and perhaps a part of an upload in memory.
const MAX_REQUESTS: usize = 24;
/// Requests at a time for which a client waits, so that uploads do not delay them.
const MAX_CLIENT_REQUESTS: usize = 24;
/// Slowest upload, in bytes per second, that is waited for.
const SLOWEST: u64 = 64 << 10;

/// Whether a put replaces an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replace {
    /// It does.
    Always,
    /// It does not, where the server can tell. That saves bytes and nothing depends on it.
    IfAbsent,
}

/// Result of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// The object is as it was put.
    Written,
    /// There was one already.
    Existed,
}

/// Size and time of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectInfo {
    /// Size, in bytes.
    pub(crate) size: u64,
    /// Time of the last put, by the server's clock.
    pub(crate) modified: SystemTime,
}

impl From<ObjectMeta> for ObjectInfo {
    fn from(meta: ObjectMeta) -> Self {
        Self { size: meta.size, modified: meta.last_modified.into() }
    }
}

/// The object store of one bucket, or folder in it.
#[derive(Debug)]
pub(crate) struct BucketStore {
    pub(super) engine: Engine,
    /// Empty, or a folder with a slash at its end.
    pub(super) prefix: String,
    pace: Pace,
    requests: Semaphore,
    client_requests: Semaphore,
    pub(super) metrics: Arc<Metrics>,
    #[cfg(test)]
    pub(super) limits: super::request_limits::Limits,
}

impl BucketStore {
    /// Creates the store of an engine.
    pub(super) fn new(engine: Engine, prefix: &str, metrics: Arc<Metrics>) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self {
            engine,
            prefix,
            pace: Pace::default(),
            requests: Semaphore::new(MAX_REQUESTS),
            client_requests: Semaphore::new(MAX_CLIENT_REQUESTS),
            metrics,
            #[cfg(test)]
            limits: super::request_limits::Limits::default(),
        }
    }

    /// Puts an object that is in memory.
    pub(crate) async fn put(&self, name: &ObjectName, bytes: Bytes, replace: Replace) -> Result<Put, BucketError> {
        let size = bytes.len() as u64;
        let mode = match replace {
            Replace::Always => PutMode::Overwrite,
            Replace::IfAbsent => PutMode::Create,
        };
        let result = match self.put_mode(name, bytes.clone(), mode).await {
            Err(error) if error.kind == FailureKind::Unsupported && replace == Replace::IfAbsent => {
                self.put_mode(name, bytes, PutMode::Overwrite).await
            }
            result => result,
        };
        match result {
            Ok(()) => {
                self.metrics.bucket.record_sent(size);
                Ok(Put::Written)
            }
            Err(error) if error.kind == FailureKind::Exists => Ok(Put::Existed),
            Err(error) => Err(error),
        }
    }

    async fn put_mode(&self, name: &ObjectName, bytes: Bytes, mode: PutMode) -> Result<(), BucketError> {
        let path = self.path(name)?;
        let time = upload_time(bytes.len() as u64);
        self.engine.wait_to_write(bytes.len()).await;
        let run = || {
            let mut options = PutOptions::from(mode.clone());
            if self.engine.has_content_types() {
                options.attributes.insert(Attribute::ContentType, content_type(name).into());
            }
            let (path, payload) = (&path, PutPayload::from(bytes.clone()));
            async move { self.engine.objects().put_opts(path, payload, options).await.map(drop) }
        };
        self.attempts(Operation::Put, name, Patience::Background, time, run).await
    }

    /// Gets an object of at most `limit` bytes; `None` if there is none.
    pub(crate) async fn get(
        &self,
        name: &ObjectName,
        limit: usize,
        patience: Patience,
    ) -> Result<Option<Bytes>, BucketError> {
        Ok(self.get_dated(name, limit, patience).await?.map(|(bytes, _)| bytes))
    }

    /// Gets an object of at most `limit` bytes, with the time of its last put; `None` if there is none.
    pub(crate) async fn get_dated(
        &self,
        name: &ObjectName,
        limit: usize,
        patience: Patience,
    ) -> Result<Option<(Bytes, SystemTime)>, BucketError> {
        let path = self.path(name)?;
        let run = || async {
            let result = self.engine.objects().get_opts(&path, GetOptions::default()).await?;
            if result.meta.size > limit as u64 {
                return Ok(None);
            }
            let modified = result.meta.last_modified.into();
            result.bytes().await.map(|bytes| Some((bytes, modified)))
        };
        match self.attempts(Operation::Get, name, patience, patience.time(), run).await {
            Ok(Some((bytes, modified))) if bytes.len() <= limit => {
                self.metrics.bucket.record_received(bytes.len() as u64);
                Ok(Some((bytes, modified)))
            }
            Ok(_) => Err(BucketError::other(Operation::Get, name.to_string(), format_args!("more than {limit} bytes"))),
            Err(error) if error.kind == FailureKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens an object, or a part of it; `None` if there is none. A server that cannot send parts, as rclone, sends all of it:
    /// [`ObjectBody::range`] tells. The body fails if it breaks; it is not tried again.
    pub(crate) async fn read(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        patience: Patience,
    ) -> Result<Option<ObjectBody>, BucketError> {
        match self.read_part(name, range.clone(), patience).await {
            Err(error) if error.kind == FailureKind::Other && range.is_some() => {
                self.read_part(name, None, patience).await
            }
            result => result,
        }
    }

    async fn read_part(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        patience: Patience,
    ) -> Result<Option<ObjectBody>, BucketError> {
        let path = self.path(name)?;
        let run = || {
            let range = range.clone().map(GetRange::Bounded);
            self.engine.objects().get_opts(&path, GetOptions { range, ..GetOptions::default() })
        };
        match self.attempts(Operation::Get, name, patience, patience.time(), run).await {
            Ok(result) => Ok(Some(ObjectBody::new(name, result, &self.metrics))),
            Err(error) if error.kind == FailureKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns size and time of an object; `None` if there is none.
    pub(crate) async fn head(&self, name: &ObjectName, patience: Patience) -> Result<Option<ObjectInfo>, BucketError> {
        let path = self.path(name)?;
        let run = || self.engine.objects().head(&path);
        match self.attempts(Operation::Head, name, patience, patience.time(), run).await {
            Ok(meta) => Ok(Some(meta.into())),
            Err(error) if error.kind == FailureKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists up to `limit` objects in a folder, which ends in a slash or is empty for all of the bucket, in the order of their
    /// names, from the one after `after` on. Names of others are left out. One request for each thousand.
    pub(crate) async fn list(
        &self,
        folder: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<(ObjectName, ObjectInfo)>, BucketError> {
        let parse =
            |text: &str| Path::parse(text).map_err(|cause| BucketError::other(Operation::List, folder.into(), cause));
        let place = parse(&format!("{}{folder}", self.prefix))?;
        let after = after.map(|after| self.path(after)).transpose()?;
        let run = || async {
            let place = Some(&place).filter(|place| !place.is_root());
            let objects = match &after {
                Some(after) => self.engine.objects().list_with_offset(place, after),
                None => self.engine.objects().list(place),
            };
            let mut listed = Vec::new();
            let mut objects = std::pin::pin!(objects);
            while let Some(meta) = objects.try_next().await? {
                let name = meta.location.as_ref().strip_prefix(&self.prefix).and_then(ObjectName::parse);
                listed.extend(name.map(|name| (name, ObjectInfo::from(meta))));
                // Directories are listed in no order, so all of one is read.
                if listed.len() >= limit && self.engine.lists_in_order() {
                    break;
                }
            }
            Ok(listed)
        };
        let mut listed =
            self.attempts_on(Operation::List, folder, Patience::Background, REQUEST_TIME * 10, run).await?;
        listed.sort_by_cached_key(|(name, _)| name.to_string());
        listed.truncate(limit);
        Ok(listed)
    }

    /// Deletes an object, if there is one.
    pub(crate) async fn delete(&self, name: &ObjectName) -> Result<(), BucketError> {
        let path = self.path(name)?;
        let run = || self.engine.objects().delete(&path);
        match self.attempts(Operation::Delete, name, Patience::Background, REQUEST_TIME, run).await {
            Err(error) if error.kind == FailureKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Returns a URL with which anybody can get the object for so long; `None` if there is no such with this engine. Needs no
    /// request.
    pub(crate) async fn sign_get(&self, name: &ObjectName, valid: Duration) -> Result<Option<String>, BucketError> {
        let (Some(signer), path) = (self.engine.signer(), self.path(name)?) else { return Ok(None) };
        let url = signer.signed_url(Method::GET, &path, valid).await;
        // Nothing of an error: it may have a part of the URL.
        url.map(|url| Some(url.into()))
            .map_err(|_| BucketError::other(Operation::Get, name.to_string(), "cannot sign its URL"))
    }

    /// Returns the path of an object for `object_store`.
    pub(super) fn path(&self, name: &ObjectName) -> Result<Path, BucketError> {
        Path::parse(format!("{}{name}", self.prefix))
            .map_err(|cause| BucketError::other(Operation::Get, name.to_string(), cause))
    }

    pub(super) async fn attempts<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        operation: Operation,
        name: &ObjectName,
        patience: Patience,
        time: Duration,
        run: impl FnMut() -> F,
    ) -> Result<T, BucketError> {
        self.attempts_on(operation, &name.to_string(), patience, time, run).await
    }

    /// Runs a request until it succeeds, cannot succeed, or patience ends.
    async fn attempts_on<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        operation: Operation,
        object: &str,
        patience: Patience,
        time: Duration,
        mut run: impl FnMut() -> F,
    ) -> Result<T, BucketError> {
        let mut attempt = 1;
        #[cfg(test)]
        if self.limits.is_dead(operation).await {
            return Err(BucketError::other(operation, object.to_owned(), "dead"));
        }
        loop {
            let pause = self.pace.wait(Instant::now());
            if pause > patience.pause() {
                return Err(BucketError::slow_down(operation, object.to_owned()));
            }
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let requests = if patience == Patience::Client { &self.client_requests } else { &self.requests };
            let permit = requests.acquire().await;
            let result = timeout(time, noting(run())).await;
            drop(permit);
            let error = match result {
                Ok((Ok(value), _)) => {
                    self.metrics.bucket.record_request(operation.label(), "ok");
                    self.pace.succeeded(Instant::now());
                    return Ok(value);
                }
                Ok((Err(error), answer)) => BucketError::of(operation, object.to_owned(), &error, answer),
                Err(_) => BucketError::timeout(operation, object.to_owned()),
            };
            self.metrics.bucket.record_request(operation.label(), error.kind.label());
            if error.kind == FailureKind::SlowDown {
                self.pace.slow_down(Instant::now());
            }
            if !error.kind.may_pass() || attempt >= patience.attempts() {
                return Err(error);
            }
            tracing::debug!("attempt {attempt}: {error}");
            sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Records bytes that were sent otherwise than by [`Self::put`].
    pub(super) fn record_sent(&self, bytes: u64) {
        self.metrics.bucket.record_sent(bytes);
    }
}

/// Returns the upper bound of the time of a request that sends so many bytes.
pub(super) fn upload_time(bytes: u64) -> Duration {
    REQUEST_TIME + Duration::from_secs(bytes / SLOWEST)
}

/// Returns the media type that web servers and browsers are told.
fn content_type(name: &ObjectName) -> &'static str {
    match name {
        ObjectName::CacheInfo => "text/x-nix-cache-info",
        ObjectName::NarInfo(_) => "text/x-nix-narinfo",
        ObjectName::Nar(_) => "application/x-nix-nar",
        ObjectName::Log(_) | ObjectName::Latest => "text/plain; charset=utf-8",
        ObjectName::Listing(_)
        | ObjectName::DebugInfo(_)
        | ObjectName::Host(_)
        | ObjectName::Pin(_)
        | ObjectName::Gc(_, GcObject::Lease) => "application/json",
        ObjectName::Probe(_)
        | ObjectName::Segment(..)
        | ObjectName::Roots(_)
        | ObjectName::Used(..)
        | ObjectName::Gc(..) => "application/octet-stream",
    }
}
