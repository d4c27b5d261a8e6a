//! Contents of the bucket, as a garbage collection reads them.
//!
//! All objects are listed, and each narinfo that is new since the last reading is read. Listings lag, so what is known to be needed
//! is looked up by its name if it is not listed, and a run that finds objects that are there and not listed deletes nothing.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::narinfo::NarInfo;
use harmonia_protocol::{HashPart, StoreDir, StorePath};

use super::error::GcError;
use super::plan::{Snapshot, StoredNarInfo};
use super::progress::Progress;
use crate::bucket::engine::{BucketError, BucketStore, ObjectInfo, Patience};
use crate::bucket::file_hash::NarFile;
use crate::bucket::narinfo::MAX_NARINFO;
use crate::bucket::object_name::ObjectName;
use crate::store::seconds_since_epoch;

/// Objects after which progress is told.
const TELL_EVERY: usize = 10_000;
/// Upper bound of all objects: the names of a million paths take some hundred megabytes.
const MAX_OBJECTS: usize = 4_000_000;
/// Narinfos that are read at a time.
const READS: usize = 16;
/// Objects that two listings disagree on and that are looked up.
const MAX_LOOKED_UP: usize = 200;
/// Differences between clocks: servers refuse requests of hosts that are further off.
const SKEW: Duration = Duration::from_secs(15 * 60);

/// Contents of the bucket.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Narinfos and files of NARs.
    pub(crate) snapshot: Snapshot,
    /// Hash parts that narinfos refer to which harmonia has not written and leaves alone.
    pub(crate) foreign: HashSet<HashPart>,
    /// Times of the last put of narinfos and files.
    times: BTreeMap<ObjectName, SystemTime>,
    /// All other objects that have a name of the layout, with the times of their last put.
    pub(crate) others: BTreeMap<ObjectName, SystemTime>,
    /// When listing began.
    began: Option<SystemTime>,
}

impl Contents {
    /// Reads the bucket. Narinfos that are as in `before` are not read again. `now` is the time by the server's clock.
    pub(crate) async fn read(
        store: &BucketStore,
        directory: &StoreDir,
        before: Option<&Self>,
        now: SystemTime,
        progress: &Progress<'_>,
    ) -> Result<Self, GcError> {
        let mut contents = Self { began: Some(now), ..Self::default() };
        let mut listed = 0;
        let visit = |name: ObjectName, info: ObjectInfo| {
            listed += 1;
            if listed > MAX_OBJECTS {
                return;
            }
            if listed % TELL_EVERY == 0 {
                progress.listed(listed);
            }
            match &name {
                ObjectName::Nar(file) => {
                    contents.snapshot.nars.insert(*file, seconds_since_epoch(info.modified));
                    contents.times.insert(name, info.modified);
                }
                ObjectName::NarInfo(_) => drop(contents.times.insert(name, info.modified)),
                _ => drop(contents.others.insert(name, info.modified)),
            }
        };
        store.walk("", visit).await?;
        if listed > MAX_OBJECTS {
            return Err(GcError::TooMany(MAX_OBJECTS, "objects"));
        }
        let mut new = Vec::new();
        for (name, modified) in &contents.times {
            let ObjectName::NarInfo(path) = name else { continue };
            let is_same = before.is_some_and(|before| before.times.get(name) == Some(modified));
            match before.filter(|_| is_same).and_then(|before| before.snapshot.narinfos.get(path)) {
                Some(same) => drop(contents.snapshot.narinfos.insert(*path, same.clone())),
                None => new.push(*path),
            }
        }
        contents.look_up(store, directory, new, progress).await?;
        Ok(contents)
    }

    /// Reads narinfos that were not listed, if they are there, and what these refer to.
    pub(crate) async fn look_up_closure(
        &mut self,
        store: &BucketStore,
        directory: &StoreDir,
        roots: impl Iterator<Item = HashPart>,
        progress: &Progress<'_>,
    ) -> Result<(), GcError> {
        let mut seen: HashSet<HashPart> = HashSet::new();
        let is_missing = |contents: &Self, path: &HashPart| !contents.snapshot.narinfos.contains_key(path);
        let mut missing: Vec<_> = roots.filter(|path| is_missing(self, path) && seen.insert(*path)).collect();
        let references = self.snapshot.narinfos.values().flat_map(|narinfo| &narinfo.references).copied();
        missing.extend(references.filter(|path| is_missing(self, path) && seen.insert(*path)).collect::<Vec<_>>());
        while !missing.is_empty() {
            self.look_up(store, directory, missing.clone(), progress).await?;
            let found = missing.iter().filter_map(|path| self.snapshot.narinfos.get(path));
            let references: Vec<_> = found.flat_map(|narinfo| &narinfo.references).copied().collect();
            missing = references.into_iter().filter(|path| is_missing(self, path) && seen.insert(*path)).collect();
        }
        Ok(())
    }

    /// Returns whether a path or file was put since a time, by the server's clock.
    pub(crate) fn is_put_since(&self, name: &ObjectName, time: SystemTime) -> bool {
        self.times.get(name).is_some_and(|modified| *modified >= time)
    }

    /// Fails if this listing lacks what an earlier one had and is there, or has what that one should have had.
    pub(crate) async fn check_listings(&self, store: &BucketStore, before: &Self) -> Result<(), GcError> {
        let old = before.began.and_then(|began| began.checked_sub(SKEW));
        let is_old = |(name, modified): &(&ObjectName, &SystemTime)| {
            !before.times.contains_key(*name) && old.is_some_and(|old| **modified < old)
        };
        if let Some((name, _)) = self.times.iter().find(is_old) {
            return Err(GcError::Listing(name.to_string()));
        }
        let gone: Vec<_> = before.times.keys().filter(|name| !self.times.contains_key(*name)).cloned().collect();
        let heads = stream::iter(gone.into_iter().take(MAX_LOOKED_UP))
            .map(|name| async move { store.head(&name, Patience::Background).await.map(|head| head.map(|_| name)) });
        let found: Vec<_> = heads.buffer_unordered(READS).try_collect().await?;
        found.into_iter().flatten().next().map_or(Ok(()), |name| Err(GcError::Listing(name.to_string())))
    }

    async fn look_up(
        &mut self,
        store: &BucketStore,
        directory: &StoreDir,
        paths: Vec<HashPart>,
        progress: &Progress<'_>,
    ) -> Result<(), GcError> {
        let total = paths.len();
        let reads = stream::iter(paths).map(|path| async move {
            let got = store.get_dated(&ObjectName::NarInfo(path), MAX_NARINFO, Patience::Background).await;
            Ok::<_, BucketError>((path, got?))
        });
        let mut reads = reads.buffer_unordered(READS);
        let mut read = 0;
        while let Some((path, got)) = reads.try_next().await? {
            read += 1;
            progress.read(read, total);
            let Some((bytes, modified)) = got else {
                self.times.remove(&ObjectName::NarInfo(path));
                continue;
            };
            match parse(&bytes, directory) {
                Some((references, Some(file))) => {
                    let references = references.into_iter().filter(|reference| *reference != path).collect();
                    let stored = StoredNarInfo { references, file, modified: seconds_since_epoch(modified) };
                    self.snapshot.narinfos.insert(path, stored);
                    self.times.insert(ObjectName::NarInfo(path), modified);
                }
                Some((references, None)) => self.foreign.extend(references),
                None => tracing::warn!("{} in the bucket cannot be read", ObjectName::NarInfo(path)),
            }
        }
        Ok(())
    }
}

/// Returns the references of a narinfo, and the file that it names if that has a name of the layout.
fn parse(bytes: &[u8], directory: &StoreDir) -> Option<(Vec<HashPart>, Option<NarFile>)> {
    let narinfo = NarInfo::parse(std::str::from_utf8(bytes).ok()?, directory).ok()?;
    let references = narinfo.references.iter().map(StorePath::hash_part).collect();
    Some((references, NarFile::from_url(narinfo.url.as_str())))
}
