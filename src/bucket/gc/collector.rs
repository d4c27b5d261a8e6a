//! A run of the garbage collection: reads, plans, waits for publishers, deletes.
//!
//! Each step can be done twice. A run that stops anywhere is gone on with by the next one, from its plan, if that is soon; else its
//! plan counts as ended and there is a new one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::{HashPart, StoreDir};
use tokio::time::sleep;

use super::compaction::Merged;
use super::contents::Contents;
use super::error::GcError;
use super::keep::Keep;
use super::lease::Lease;
use super::plan::{GcPlan, Policy, Snapshot};
use super::progress::Progress;
use super::runs::{Runs, read_plan};
use super::saved_narinfos;
use super::stored_plan::{MAX_PLAN, StoredPlan};
use super::timing::WAIT;
use crate::bucket::engine::{BucketStore, Patience, Put, Replace};
use crate::bucket::file_hash::NarFile;
use crate::bucket::object_name::{GcObject, ObjectName, RunId, SegmentId};
use crate::config::HostName;
use crate::store::seconds_since_epoch;

/// Deletions at a time.
const DELETIONS: usize = 16;
/// Time after which a plan is not gone on with: half of that after which publishers take its run for ended.
const STALE: Duration = Duration::from_secs(1_800);
/// Time for which the objects of a run are kept: longer than it can be undone.
const KEEP_RUNS: Duration = Duration::from_secs(60 * 86_400);
/// Time after which nobody goes on with an upload.
const UPLOAD_AGE: Duration = Duration::from_secs(7 * 86_400);
/// Segments from which on they are put together.
const MIN_SEGMENTS: usize = 2;

/// Times for which things are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    /// Time for which a path is kept after it was used or put.
    pub(crate) keep: Duration,
    /// Time for which a NAR stays without a narinfo.
    pub(crate) unnamed: Duration,
    /// Time by which the clock is ahead.
    #[cfg(test)]
    pub(in crate::bucket) ahead: u64,
}

impl Ages {
    /// Creates ages.
    pub(crate) const fn new(keep: Duration, unnamed: Duration) -> Self {
        Self {
            keep,
            unnamed,
            #[cfg(test)]
            ahead: 0,
        }
    }
}

/// Report of what a run deletes, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Paths whose narinfos go.
    pub(crate) narinfos: Vec<HashPart>,
    /// Files of NARs that go, with their number.
    pub(crate) nars: usize,
    /// Files of NARs that no narinfo names, and that a later run deletes.
    pub(crate) unnamed: usize,
    /// Paths that were planned to go and are still needed.
    pub(crate) spared: usize,
    /// Paths that stay.
    pub(crate) kept: usize,
    /// Number of the run; `None` for a dry run.
    pub(crate) run: Option<RunId>,
}

/// Runs garbage collections for one host.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) store: Arc<BucketStore>,
    pub(crate) directory: StoreDir,
    pub(crate) host: HostName,
    pub(crate) ages: Ages,
}

impl Collector {
    /// Plans a run, and deletes nothing.
    pub(crate) async fn dry_run(&self, progress: &Progress<'_>) -> Result<Report, GcError> {
        let last = Runs::find(&self.store).await?.last();
        let now = SystemTime::now();
        let (contents, keep) = self.read(None, now, progress).await?;
        let plan = self.plan(&contents, &keep, last, now).await?;
        Ok(Report::of(&plan, &contents.snapshot, 0, None))
    }

    /// Runs a garbage collection to its end. Dropping the future is as stopping the process.
    pub(crate) async fn run(&self, progress: &Progress<'_>) -> Result<Report, GcError> {
        loop {
            let lease = Lease::acquire(&self.store, &self.host).await?;
            let (run, token, now) = (lease.run(), lease.token().to_owned(), lease.server_time());
            let idle = lease.idle();
            let steps = async {
                let found = read_plan(&self.store, run).await?;
                if found.is_some() && idle.is_none_or(|idle| idle > STALE) {
                    // Publishers may count it as ended soon. Whatever it has deleted had no narinfo left that needed it.
                    self.put_done(run, &StoredPlan { token, plan: GcPlan::default() }).await?;
                    return Ok(None);
                }
                self.steps(run, token, found, now, progress).await.map(Some)
            };
            if let Some(report) = lease.during(steps).await? {
                return Ok(report);
            }
        }
    }

    async fn steps(
        &self,
        run: RunId,
        token: String,
        found: Option<StoredPlan>,
        now: SystemTime,
        progress: &Progress<'_>,
    ) -> Result<Report, GcError> {
        let (first, keep) = self.read(None, now, progress).await?;
        let mut stored = if let Some(stored) = found {
            stored
        } else {
            let plan = self.plan(&first, &keep, RunId(run.0 - 1), now).await?;
            self.put_plan(run, StoredPlan { token, plan }).await?
        };
        let planned = self.store.head(&ObjectName::Gc(run, GcObject::Plan), Patience::Background).await?;
        let planned = planned.map_or(now, |plan| plan.modified);
        progress.waits(WAIT);
        sleep(WAIT).await;
        // Of several runs at once, the plan of one is there now.
        if read_plan(&self.store, run).await?.is_none_or(|plan| plan.token != stored.token) {
            return Err(GcError::Busy(run, "another host".to_owned()));
        }
        let (second, keep) = self.read(Some(&first), planned, progress).await?;
        second.check_listings(&self.store, &first).await?;
        let planned_paths = stored.plan.narinfos.len();
        stored.plan.spare(&second.snapshot, |path, _| {
            keep.roots.contains(path) || second.is_put_since(&ObjectName::NarInfo(*path), planned)
        });
        stored.plan.nars.retain(|file| !second.is_put_since(&ObjectName::Nar(*file), planned));
        let report = Report::of(&stored.plan, &second.snapshot, planned_paths, Some(run));
        self.delete(&stored.plan, &second.snapshot, progress).await?;
        self.compact(&second, &stored.plan.narinfos, SegmentId::epoch_of(planned)).await?;
        self.delete_old(&second, run, planned).await?;
        // They cost space alone, and not all servers list them.
        match self.store.abort_old_uploads(planned, UPLOAD_AGE).await {
            Ok(0) => {}
            Ok(aborted) => tracing::info!("aborted {aborted} uploads that nobody went on with"),
            Err(error) => tracing::info!("uploads that nobody goes on with may remain: {error}"),
        }
        self.put_done(run, &stored).await?;
        Ok(report)
    }

    /// Reads the bucket, and what is kept of it.
    async fn read(
        &self,
        before: Option<&Contents>,
        now: SystemTime,
        progress: &Progress<'_>,
    ) -> Result<(Contents, Keep), GcError> {
        let mut contents = Contents::read(&self.store, &self.directory, before, now, progress).await?;
        let keep = Keep::read(&self.store, &contents, now, self.ages.keep).await?;
        contents.look_up_closure(&self.store, &self.directory, keep.paths(), progress).await?;
        Ok((contents, keep))
    }

    async fn plan(&self, contents: &Contents, keep: &Keep, last: RunId, now: SystemTime) -> Result<GcPlan, GcError> {
        let name = ObjectName::Gc(last, GcObject::Done);
        let done = if last == RunId(0) { None } else { self.store.get(&name, MAX_PLAN, Patience::Background).await? };
        // Without it files stay for longer.
        let done = done.and_then(|bytes| StoredPlan::decode(&bytes).ok());
        let unnamed = done.map_or_else(BTreeMap::new, |done| done.plan.unnamed);
        let age = self.ages.keep.as_secs();
        let policy = Policy {
            now: self.policy_time(now),
            keep_used: age,
            keep_young: age,
            keep_unnamed: self.ages.unnamed.as_secs(),
        };
        let mut plan = GcPlan::new(&contents.snapshot, &keep.roots, &keep.used, &unnamed, policy);
        StoredPlan::cut(&mut plan);
        Ok(plan)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "tests have a clock of their own")]
    fn policy_time(&self, now: SystemTime) -> u64 {
        seconds_since_epoch(now)
    }

    #[cfg(test)]
    fn policy_time(&self, now: SystemTime) -> u64 {
        seconds_since_epoch(now) + self.ages.ahead
    }

    /// Puts the narinfos that will be deleted, and the plan. From then on publishers leave alone what it condemns.
    async fn put_plan(&self, run: RunId, mut stored: StoredPlan) -> Result<StoredPlan, GcError> {
        let saved = saved_narinfos::save(&self.store, &mut stored.plan).await?;
        self.store.put(&ObjectName::Gc(run, GcObject::NarInfos), saved, Replace::Always).await?;
        let name = ObjectName::Gc(run, GcObject::Plan);
        if self.store.put(&name, encode(&stored)?, Replace::IfAbsent).await? == Put::Existed {
            return Err(GcError::Busy(run, "another host".to_owned()));
        }
        Ok(stored)
    }

    async fn put_done(&self, run: RunId, stored: &StoredPlan) -> Result<(), GcError> {
        self.store.put(&ObjectName::Gc(run, GcObject::Done), encode(stored)?, Replace::Always).await?;
        Ok(())
    }

    /// Deletes narinfos, each after those that refer to it, and then NARs.
    async fn delete(&self, plan: &GcPlan, snapshot: &Snapshot, progress: &Progress<'_>) -> Result<(), GcError> {
        let (mut deleted, total) = (0, plan.narinfos.len() + plan.nars.len());
        for paths in rounds(&plan.narinfos, snapshot) {
            let deletions = stream::iter(paths).map(|path| async move {
                self.store.delete(&ObjectName::NarInfo(*path)).await?;
                self.store.delete(&ObjectName::Listing(*path)).await
            });
            deletions.buffer_unordered(DELETIONS).try_for_each(|()| std::future::ready(Ok(()))).await?;
            deleted += paths.len();
            progress.deleted(deleted, total);
        }
        let deletions = stream::iter(&plan.nars)
            .map(|file: &NarFile| async move { self.store.delete(&ObjectName::Nar(*file)).await });
        let mut deletions = deletions.buffer_unordered(DELETIONS);
        while deletions.try_next().await?.is_some() {
            deleted += 1;
            progress.deleted(deleted, total);
        }
        Ok(())
    }

    /// Deletes what was kept for garbage collections and has become too old, and listings of paths that are gone.
    async fn delete_old(&self, contents: &Contents, run: RunId, now: SystemTime) -> Result<(), GcError> {
        let is_older = |time: SystemTime, age| now.duration_since(time).is_ok_and(|past| past > age);
        let is_old = |(name, modified): &(&ObjectName, &SystemTime)| match name {
            ObjectName::Used(day, _) => is_older(day.end(), self.ages.keep),
            // The last run says since when files are unnamed.
            ObjectName::Gc(of, _) => of.next() < run && is_older(**modified, KEEP_RUNS),
            ObjectName::Listing(path) => {
                !contents.snapshot.narinfos.contains_key(path) && is_older(**modified, self.ages.unnamed)
            }
            _ => false,
        };
        let old = contents.others.iter().filter(is_old).map(|(name, _)| self.store.delete(name));
        Ok(stream::iter(old).buffer_unordered(DELETIONS).try_for_each(|()| std::future::ready(Ok(()))).await?)
    }

    /// Takes the paths that are gone out of the index, and puts those into it that it lacks.
    async fn compact(&self, contents: &Contents, gone: &[HashPart], now: u64) -> Result<(), GcError> {
        let segments: Vec<_> =
            contents.others.keys().filter(|name| matches!(name, ObjectName::Segment(..))).cloned().collect();
        let mut merged = Merged::read(&self.store, segments).await?;
        let gone: HashSet<_> = gone.iter().collect();
        let before = merged.paths.len();
        merged.paths.retain(|path| !gone.contains(path));
        let lacks = |path: &&HashPart| !gone.contains(*path);
        let had = merged.paths.len();
        merged.paths.extend(contents.snapshot.narinfos.keys().filter(lacks));
        let is_same = had == before && merged.paths.len() == had;
        if is_same && merged.segments.len() < MIN_SEGMENTS {
            return Ok(());
        }
        if merged.put(&self.store, &self.host, now).await? {
            merged.delete(&self.store).await?;
        }
        Ok(())
    }
}

impl Report {
    fn of(plan: &GcPlan, snapshot: &Snapshot, planned: usize, run: Option<RunId>) -> Self {
        let narinfos: Vec<_> =
            plan.narinfos.iter().filter(|path| snapshot.narinfos.contains_key(path)).copied().collect();
        Self {
            nars: plan.nars.len(),
            unnamed: plan.unnamed.len(),
            spared: planned.saturating_sub(plan.narinfos.len()),
            kept: snapshot.narinfos.len() - narinfos.len(),
            narinfos,
            run,
        }
    }
}

fn encode(stored: &StoredPlan) -> Result<Bytes, GcError> {
    stored.encode().map(Bytes::from).map_err(|cause| GcError::System(cause.to_string()))
}

/// Splits paths, referrers first, into parts of which no path refers to another of the same part.
fn rounds<'a>(paths: &'a [HashPart], snapshot: &Snapshot) -> Vec<&'a [HashPart]> {
    let (mut rounds, mut start, mut referred) = (Vec::new(), 0, HashSet::new());
    for (at, path) in paths.iter().enumerate() {
        if referred.contains(path) {
            rounds.push(&paths[start..at]);
            (start, referred) = (at, HashSet::new());
        }
        referred.extend(snapshot.narinfos.get(path).into_iter().flat_map(|narinfo| narinfo.references.iter().copied()));
    }
    rounds.push(&paths[start..]);
    rounds
}
