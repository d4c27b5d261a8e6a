//! Lookup of a path that this host does not have: memory, index of the fleet, bucket.
//!
//! A path is absent only if a fresh index has it not, or the bucket says so; and never while a client may ask for it because it was
//! told of it. Whoever asks for the same path waits for the same request.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;
use tokio::sync::mpsc;

use super::narinfos::Fetched;
use super::unreachable::Unreachable;
use crate::bucket::engine::Patience;
use crate::bucket::index::Indexed;
use crate::bucket::narinfo::{BucketNarInfo, MAX_NARINFO};
use crate::bucket::object_name::ObjectName;
use crate::bucket::state::Bucket;
use crate::config;
use crate::fairness::ClientId;
use crate::metrics::BucketLookup;

/// Upper bound of attempts: a request in flight may end without a result.
const ATTEMPTS: usize = 3;
/// Time since the last refresh of the index up to which the bucket counts as reached. One that is slow takes some seconds.
const REACHED: Duration = Duration::from_secs(15);

impl Bucket {
    /// Returns whether paths of other hosts are served.
    pub(crate) const fn serves_reads(&self) -> bool {
        self.config.read
    }

    /// Updates the gauges of the index.
    pub(crate) fn update_index_metrics(&self) {
        let (bytes, age) = self.index.usage();
        self.metrics.bucket_lookups.set_index(bytes, age);
    }

    /// Fails unless the bucket was reached a moment ago.
    pub(crate) fn check_reached(&self) -> Result<(), Unreachable> {
        let (_, age) = self.index.usage();
        if age.is_some_and(|age| age <= REACHED) { Ok(()) } else { Err(Unreachable::Pausing) }
    }

    /// Returns the narinfo of a path, if the bucket has one that a trusted key signed. The error says that this is not known. It
    /// is no error with `unreachable = "miss"`, unless a client was told of the path.
    pub(crate) async fn narinfo(self: &Arc<Self>, path: HashPart, client: ClientId) -> Fetched {
        let known = self.narinfos.find(&path);
        if let Some((narinfo, true)) = known {
            self.record(BucketLookup::Memory);
            self.narinfos.tell(&narinfo);
            return Ok(Some(narinfo));
        }
        let known = known.map(|(narinfo, _)| narinfo);
        let is_told = self.narinfos.told.contains(&path);
        if known.is_none() && !is_told {
            if self.index.look_up(&path) == Indexed::No {
                self.record(BucketLookup::NotIndexed);
                return Ok(None);
            }
            if self.narinfos.is_absent(&path) {
                self.record(BucketLookup::Absent);
                return Ok(None);
            }
        }
        // Boxed, since most lookups end before.
        let fetched = Box::pin(self.fetch(path, client)).await;
        match (fetched, known) {
            (Ok(Some(narinfo)), _) => {
                self.narinfos.tell(&narinfo);
                Ok(Some(narinfo))
            }
            (Ok(None), Some(_)) if !is_told => {
                self.narinfos.forget(&path);
                Ok(None)
            }
            // Nobody is told of its references again: if it was removed for good, it fades out before its NAR is deleted.
            (Ok(None), Some(narinfo)) => {
                self.record(BucketLookup::Stale);
                Ok(Some(narinfo))
            }
            (Err(_), Some(narinfo)) => {
                self.record(BucketLookup::Stale);
                self.narinfos.tell(&narinfo);
                Ok(Some(narinfo))
            }
            (Ok(None), None) if is_told => Err(Unreachable::Lagging),
            (Err(_), None) if !is_told && self.config.unreachable == config::Unreachable::Miss => Ok(None),
            (other, None) => other,
        }
    }

    /// Requests a narinfo, or waits for the request of another client.
    async fn fetch(self: &Arc<Self>, path: HashPart, client: ClientId) -> Fetched {
        for _ in 0..ATTEMPTS {
            let (waiter, leader) = self.narinfos.flights.join(path, client);
            if let Some(mut leader) = leader {
                let (this, clients) = (Arc::clone(self), leader.clients());
                tokio::spawn(async move { leader.run(this.request(path, clients)).await });
            }
            if let Some(fetched) = waiter.wait().await {
                return fetched;
            }
        }
        Err(Unreachable::Abandoned)
    }

    async fn request(&self, path: HashPart, clients: mpsc::UnboundedReceiver<ClientId>) -> Fetched {
        let _permit = self.narinfos.requests.acquire_for_any(clients, 1).await;
        if !self.narinfos.breaker.admits() {
            self.record(BucketLookup::Unreachable);
            return Err(Unreachable::Pausing);
        }
        let name = ObjectName::NarInfo(path);
        let bytes = match self.store.get(&name, MAX_NARINFO, Patience::Client).await {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind.may_pass() {
                    self.narinfos.breaker.failed();
                } else {
                    self.narinfos.breaker.succeeded();
                }
                self.record(BucketLookup::Unreachable);
                return Err(error.into());
            }
        };
        self.narinfos.breaker.succeeded();
        let Some(bytes) = bytes else {
            self.record(BucketLookup::Absent);
            self.narinfos.insert_absent(path);
            return Ok(None);
        };
        let parsed = BucketNarInfo::parse(&bytes, path, &self.directory);
        match parsed.and_then(|narinfo| narinfo.check_signed(&self.trusted(), &self.directory).map(|()| narinfo)) {
            Ok(narinfo) => {
                self.record(BucketLookup::Found);
                let narinfo = Arc::new(narinfo);
                self.narinfos.insert(&narinfo);
                self.files.insert(&narinfo);
                Ok(Some(narinfo))
            }
            Err(error) => {
                self.record(BucketLookup::Rejected);
                if let Some(more) = self.narinfos.rejected.admit(()) {
                    tracing::warn!("{name} in the bucket is not served: {error}{more}");
                }
                self.narinfos.insert_absent(path);
                Ok(None)
            }
        }
    }

    fn record(&self, lookup: BucketLookup) {
        self.metrics.bucket_lookups.record(lookup);
    }
}
