//! Lease of a garbage collection: one run at a time, from whichever host.
//!
//! The holder writes it again every [`BEAT`], with another number. Whoever wants it while it is there watches whether it changes, so
//! that no clocks are compared. A holder that has not renewed it for [`LOST`] stops by itself, well before anybody takes it.
//! Servers that ignore conditions let two create it; then one of them finds the other's token.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use harmonia_protocol::nix32;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use super::error::GcError;
use super::runs::{MAX_OBJECTS, is_there};
use crate::bucket::engine::{BucketStore, Patience, Put, Replace};
use crate::bucket::object_name::{GcObject, OWN, ObjectName, RunId};
use crate::config::HostName;

/// Time between two renewals.
const BEAT: Duration = Duration::from_secs(20);
/// Time after which a holder that could not renew it stops.
const LOST: Duration = Duration::from_secs(60);
/// Time for which a lease has to stay as it is until it is taken from its holder.
const WATCH: Duration = Duration::from_secs(90);
/// Time between two looks at a lease.
const POLL: Duration = Duration::from_secs(15);
/// Time after which whoever has put a lease looks whether it is still there.
const CONFIRM: Duration = Duration::from_secs(3);
/// Upper bound of the object's size, in bytes.
const MAX_LEASE: usize = 4 << 10;
/// Times that a lease is looked at until it counts as busy.
const MAX_LOOKS: usize = 100;

/// The object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseFile {
    host: String,
    token: String,
    /// Number of renewals.
    beat: u64,
}

/// The right to run a garbage collection.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Arc<BucketStore>,
    run: RunId,
    file: LeaseFile,
    renewed: Instant,
    renewed_at: SystemTime,
    /// Time of the last put, by the server's clock, and by that of this process.
    server: (SystemTime, Instant),
    /// Time since the holder before renewed it, if there was one.
    idle: Option<Duration>,
}

impl Lease {
    /// Takes the lease of the run that has not ended, or of a new one. If somebody else holds it, this takes a minute and a half.
    pub(crate) async fn acquire(store: &Arc<BucketStore>, host: &HostName) -> Result<Self, GcError> {
        let mut random = [0; 20];
        SystemRandom::new().fill(&mut random).map_err(|_| GcError::System("no random numbers".to_owned()))?;
        let file = LeaseFile { host: host.to_string(), token: nix32::encode(&random), beat: 0 };
        let listed = store.list(&format!("{OWN}gc/"), None, MAX_OBJECTS).await?;
        let done = listed.iter().filter_map(|(name, _)| match name {
            ObjectName::Gc(run, GcObject::Done) => Some(*run),
            _ => None,
        });
        let mut run = done.max().unwrap_or_default().next();
        let (mut seen, mut since, mut before) = (None, Instant::now(), None);
        for _ in 0..MAX_LOOKS {
            while is_there(store, run, GcObject::Done).await? {
                (run, seen) = (run.next(), None);
            }
            let name = ObjectName::Gc(run, GcObject::Lease);
            let found = store.get_dated(&name, MAX_LEASE, Patience::Background).await?;
            let replace = match found {
                None => Replace::IfAbsent,
                Some((bytes, modified)) => {
                    if seen.as_ref() != Some(&bytes) {
                        if seen.is_some() {
                            return Err(GcError::Busy(run, holder(&bytes)));
                        }
                        tracing::info!(
                            "watching for {} seconds whether {} still runs garbage collection {run}",
                            WATCH.as_secs(),
                            holder(&bytes)
                        );
                        (seen, since, before) = (Some(bytes), Instant::now(), Some(modified));
                    }
                    if since.elapsed() < WATCH {
                        sleep(POLL).await;
                        continue;
                    }
                    Replace::Always
                }
            };
            let renewed = (Instant::now(), SystemTime::now());
            let put = store.put(&name, render(&file)?, replace).await?;
            sleep(CONFIRM).await;
            let found = store.get_dated(&name, MAX_LEASE, Patience::Background).await?;
            match found {
                Some((bytes, modified)) if put == Put::Written && token(&bytes).as_ref() == Some(&file.token) => {
                    let idle = before.map(|before| modified.duration_since(before).unwrap_or_default());
                    let server = (modified, renewed.0);
                    let store = Arc::clone(store);
                    return Ok(Self { store, run, file, renewed: renewed.0, renewed_at: renewed.1, server, idle });
                }
                Some((bytes, _)) => return Err(GcError::Busy(run, holder(&bytes))),
                None => {}
            }
        }
        Err(GcError::Busy(run, "another host".to_owned()))
    }

    /// Returns the number of the run.
    pub(crate) const fn run(&self) -> RunId {
        self.run
    }

    /// Returns the random text of this holder.
    pub(crate) fn token(&self) -> &str {
        &self.file.token
    }

    /// Returns the time by the server's clock.
    pub(crate) fn server_time(&self) -> SystemTime {
        self.server.0 + self.server.1.elapsed()
    }

    /// Returns the time for which nobody had renewed the lease when it was taken; `None` if nobody held it.
    pub(crate) const fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// Runs a future while renewing the lease. Stops it if that fails, or if this process stood still for too long.
    pub(crate) async fn during<T>(mut self, steps: impl Future<Output = Result<T, GcError>>) -> Result<T, GcError> {
        let mut steps = pin!(steps);
        loop {
            let until = self.renewed + BEAT;
            let (lost, lost_at, run) = (self.renewed + LOST, self.renewed_at + LOST, self.run);
            let held = std::future::poll_fn(|context| {
                // Before each step, so that none is taken by a process that was stopped meanwhile.
                if Instant::now() > lost || SystemTime::now() > lost_at {
                    return std::task::Poll::Ready(Err(GcError::Lost(run)));
                }
                steps.as_mut().poll(context)
            });
            if let Ok(result) = timeout_at(until, held).await {
                return result;
            }
            let lost = self.renewed + LOST;
            timeout_at(lost, self.renew()).await.map_err(|_| GcError::Lost(run))??;
        }
    }

    async fn renew(&mut self) -> Result<(), GcError> {
        if self.renewed.elapsed() > LOST {
            return Err(GcError::Lost(self.run));
        }
        let name = ObjectName::Gc(self.run, GcObject::Lease);
        let (began, began_at) = (Instant::now(), SystemTime::now());
        let found = self.store.get(&name, MAX_LEASE, Patience::Background).await?;
        if found.and_then(|bytes| token(&bytes)).as_ref() != Some(&self.file.token) {
            return Err(GcError::Lost(self.run));
        }
        self.file.beat += 1;
        self.store.put(&name, render(&self.file)?, Replace::Always).await?;
        (self.renewed, self.renewed_at) = (began, began_at);
        Ok(())
    }
}

fn render(file: &LeaseFile) -> Result<Bytes, GcError> {
    serde_json::to_vec(file).map(Bytes::from).map_err(|cause| GcError::System(cause.to_string()))
}

fn token(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<LeaseFile>(bytes).ok().map(|file| file.token)
}

/// Returns the host that holds a lease, if that can be printed.
pub(in crate::bucket) fn holder(bytes: &[u8]) -> String {
    let host = serde_json::from_slice::<LeaseFile>(bytes).ok().and_then(|file| file.host.parse::<HostName>().ok());
    host.map_or_else(|| "another host".to_owned(), |host| host.to_string())
}
