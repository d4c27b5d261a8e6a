//! Garbage collections as publishers see them: which have a plan, what that condemns, and whether it has ended.
//!
//! A publisher looks before a batch, and does nothing that touches what a run condemns until that has ended. It looks again when
//! the files of its NARs are there: if a plan that is new touches its batch, it begins anew. While it puts narinfos it looks every
//! [`LOOK_AGAIN`]. `plan` says why that suffices.
//!
//! Runs have numbers without gaps, and a plan is put once, so that a GET of the next number tells whether there is a new one.
//! Listings lag, and servers that keep copies may return an old one of an object that was replaced.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use harmonia_protocol::HashPart;
use tokio::time::{Instant, sleep};

use super::plan::GcPlan;
use super::stored_plan::{MAX_PLAN, StoredPlan};
use super::timing::{ABANDONED, LOOK_AGAIN, POLL, PUT_TIME};
use crate::bucket::engine::{BucketError, BucketStore, Operation, Patience};
use crate::bucket::file_hash::NarFile;
use crate::bucket::object_name::{GcObject, OWN, ObjectName, RunId};

/// Upper bound of objects of garbage collections: four of each run, and old ones are deleted.
pub(crate) const MAX_OBJECTS: usize = 4_000;
/// Plans that are read in one look. Each run takes minutes.
const MAX_NEW: usize = 16;

/// Objects that a run deletes, unless somebody still needs them.
#[derive(Debug, Default)]
pub(crate) struct Condemned {
    run: RunId,
    paths: HashSet<HashPart>,
    files: HashSet<NarFile>,
}

impl Condemned {
    /// Returns what the plan of a run deletes.
    pub(super) fn new(run: RunId, plan: GcPlan) -> Self {
        Self { run, paths: plan.narinfos.into_iter().collect(), files: plan.nars.into_iter().collect() }
    }

    /// Returns whether the narinfo of a path is deleted.
    pub(crate) fn has_path(&self, path: &HashPart) -> bool {
        self.paths.contains(path)
    }

    /// Returns whether the file of a NAR is deleted.
    pub(crate) fn has_file(&self, file: &NarFile) -> bool {
        self.files.contains(file)
    }
}

/// Garbage collections that a publisher knows of.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    /// The last one with a plan; zero if there is none.
    last: RunId,
    /// Objects that it condemns, unless it has ended.
    open: Option<Arc<Condemned>>,
    /// When the last look began.
    looked: Instant,
}

impl Runs {
    /// Finds the last run. Takes a listing, and a look.
    pub(crate) async fn find(store: &BucketStore) -> Result<Self, BucketError> {
        let listed = store.list(&format!("{OWN}gc/"), None, MAX_OBJECTS).await?;
        let planned = listed.iter().filter_map(|(name, _)| match name {
            ObjectName::Gc(run, GcObject::Plan | GcObject::Done) => Some(*run),
            _ => None,
        });
        let mut last = planned.max().unwrap_or_default();
        // Read again by the look, if it has not ended.
        if last.0 > 0 && !is_there(store, last, GcObject::Done).await? {
            last = RunId(last.0 - 1);
        }
        let mut runs = Self { last, open: None, looked: Instant::now() };
        runs.look(store).await?;
        Ok(runs)
    }

    /// Looks for new runs, and returns what they condemn. One request if there is nothing new and no run has yet to end.
    pub(crate) async fn look(&mut self, store: &BucketStore) -> Result<Vec<Arc<Condemned>>, BucketError> {
        let (began, mut new) = (Instant::now(), Vec::new());
        while new.len() < MAX_NEW {
            let run = self.last.next();
            let Some(stored) = read_plan(store, run).await? else { break };
            let condemned = Arc::new(Condemned::new(run, stored.plan));
            self.last = run;
            self.open = Some(Arc::clone(&condemned));
            new.push(condemned);
        }
        if let Some(open) = &self.open {
            if has_ended(store, open.run).await? {
                self.open = None;
            }
        }
        self.looked = began;
        Ok(new)
    }

    /// Returns what the run condemns that has not ended, if there is one.
    pub(crate) fn open(&self) -> Option<&Condemned> {
        self.open.as_deref()
    }

    /// Returns the last run with a plan; zero if there is none.
    pub(crate) const fn last(&self) -> RunId {
        self.last
    }

    /// Returns whether narinfos may be put without another look.
    pub(crate) fn is_current(&self) -> bool {
        self.looked.elapsed() <= LOOK_AGAIN
    }

    /// Returns whether all that was put since the last look was put in time.
    pub(crate) fn was_in_time(&self) -> bool {
        self.looked.elapsed() <= LOOK_AGAIN + PUT_TIME
    }

    /// Waits until the run has ended that had not at the last look. A run that died counts as ended after an hour.
    pub(crate) async fn wait(&mut self, store: &BucketStore) -> Result<(), BucketError> {
        while let Some(run) = self.open().map(|open| open.run) {
            sleep(POLL).await;
            self.look(store).await?;
            if self.open().is_some_and(|open| open.run != run) {
                break;
            }
        }
        Ok(())
    }
}

/// Reads the plan of a run; `None` if there is none.
pub(crate) async fn read_plan(store: &BucketStore, run: RunId) -> Result<Option<StoredPlan>, BucketError> {
    let name = ObjectName::Gc(run, GcObject::Plan);
    let Some(bytes) = store.get(&name, MAX_PLAN, Patience::Background).await? else { return Ok(None) };
    let plan = StoredPlan::decode(&bytes);
    plan.map(Some).map_err(|cause| {
        let cause = format!("{cause}\n  help: remove {name}, unless a garbage collection is running");
        BucketError::other(Operation::Get, name.to_string(), cause)
    })
}

/// Returns whether there is an object of a run.
pub(crate) async fn is_there(store: &BucketStore, run: RunId, object: GcObject) -> Result<bool, BucketError> {
    Ok(store.head(&ObjectName::Gc(run, object), Patience::Background).await?.is_some())
}

/// Returns whether a run deletes nothing any more. One that has not renewed its lease for [`ABANDONED`] stopped long ago.
async fn has_ended(store: &BucketStore, run: RunId) -> Result<bool, BucketError> {
    if is_there(store, run, GcObject::Done).await? {
        return Ok(true);
    }
    let (mut last, now) = (None, SystemTime::now());
    for object in [GcObject::Lease, GcObject::Plan] {
        if last.is_none() {
            last = store.head(&ObjectName::Gc(run, object), Patience::Background).await?;
        }
    }
    Ok(last.is_some_and(|last| now.duration_since(last.modified).is_ok_and(|age| age > ABANDONED)))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::engine::Replace;
    use crate::bucket::publish::plan::tests::{file, part};

    async fn put(store: &BucketStore, run: u64, object: GcObject, number: u64) {
        let plan = GcPlan { narinfos: vec![part(number)], nars: vec![file(number)], ..GcPlan::default() };
        let bytes = match object {
            GcObject::Plan => StoredPlan { token: "a".into(), plan }.encode().unwrap(),
            _ => Vec::new(),
        };
        store.put(&ObjectName::Gc(RunId(run), object), bytes.into(), Replace::Always).await.unwrap();
    }

    #[tokio::test]
    async fn each_new_plan_is_seen_once_and_until_its_run_has_ended() {
        let store = BucketStore::in_memory(&Arc::new(InMemory::new()), 100);
        let mut runs = Runs::find(&store).await.unwrap();
        assert!(runs.open().is_none() && runs.look(&store).await.unwrap().is_empty());
        put(&store, 1, GcObject::Lease, 0).await;
        put(&store, 1, GcObject::Plan, 7).await;
        let new = runs.look(&store).await.unwrap();
        assert!(new.len() == 1 && new[0].has_path(&part(7)) && new[0].has_file(&file(7)) && !new[0].has_path(&part(8)));
        assert!(runs.look(&store).await.unwrap().is_empty() && runs.open().is_some());
        // Both of two runs since the last look.
        put(&store, 1, GcObject::Done, 0).await;
        put(&store, 2, GcObject::Plan, 8).await;
        put(&store, 2, GcObject::Done, 0).await;
        put(&store, 3, GcObject::Plan, 9).await;
        assert_eq!(runs.look(&store).await.unwrap().len(), 2);
        assert!(runs.open().is_some_and(|open| open.has_path(&part(9))));
        let found = Runs::find(&store).await.unwrap();
        assert!(found.open().is_some_and(|open| open.has_path(&part(9))));
        put(&store, 3, GcObject::Done, 0).await;
        assert!(runs.look(&store).await.unwrap().is_empty() && runs.open().is_none());
        let found = Runs::find(&store).await.unwrap();
        assert_eq!((found.open().is_none(), found.last()), (true, RunId(3)));
    }

    #[tokio::test]
    async fn a_plan_that_cannot_be_read_stops_publishing_with_a_reason() {
        let store = BucketStore::in_memory(&Arc::new(InMemory::new()), 100);
        let name = ObjectName::Gc(RunId(1), GcObject::Plan);
        store.put(&name, "broken".into(), Replace::Always).await.unwrap();
        let error = Runs::find(&store).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot get harmonia/v1/gc/00000001/plan.zst: not a zstd frame"), "{error}");
    }
}
