//! Lookup of what the bucket has of a batch before that is put.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::signature::{PublicKey, Signature};
use harmonia_protocol::{HashPart, StoreDir, StorePath};

use super::batch::{Publication, Published};
use super::plan::{Item, Known};
use crate::bucket::engine::{BucketError, BucketStore, Patience};
use crate::bucket::narinfo::{BucketNarInfo, MAX_NARINFO, is_signed_by};
use crate::bucket::object_name::ObjectName;

/// Age from which on a narinfo that is published again is put again: well within the time for which young ones are kept.
const OLD: Duration = Duration::from_secs(86_400);
/// Objects that are looked up at a time.
const SMALL: usize = 16;

/// State in the bucket of a path that is to be published.
pub(super) enum Found {
    /// There is none that can be used.
    Absent,
    /// It has this NAR.
    Same(Box<Stored>),
    /// It has another NAR.
    Other(Box<Stored>),
    /// No key that is trusted has signed it, so that no host serves it: it is replaced.
    Untrusted(Box<Stored>),
}

/// A narinfo as it is in the bucket.
pub(super) struct Stored {
    pub(super) narinfo: BucketNarInfo,
    pub(super) bytes: Bytes,
    /// Whether it has to be put again, to be kept as long as a new one.
    pub(super) is_old: bool,
}

/// Requests for what is there.
pub(super) struct Presence<'a> {
    pub(super) store: &'a BucketStore,
    pub(super) directory: &'a StoreDir,
    /// Keys of which one has to have signed a narinfo; none if that does not matter.
    pub(super) trusted: Arc<[PublicKey]>,
}

impl Presence<'_> {
    /// Looks up what the bucket has: the narinfos of paths that the index has, and those of references outside of the batch.
    /// Adds the old ones among the former to `old`.
    pub(super) async fn look_up(
        &self,
        by_path: &HashMap<HashPart, &Publication>,
        items: &[Item],
        indexed: &impl Fn(&HashPart) -> bool,
        (mut known, old): (Known, &mut Vec<(HashPart, Bytes)>),
        published: &mut Published,
    ) -> Result<Known, BucketError> {
        let unseen = items.iter().map(|item| item.path).filter(|path| !known.narinfos.contains(path) && indexed(path));
        known.indexed = unseen.collect();
        let there = known.indexed.iter().filter_map(|path| by_path.get(path).copied());
        let found = there.map(|publication| async move {
            let (path, ours) = (publication.path(), &publication.narinfo);
            self.find(path, ours.nar_hash(), || self.trusts(ours)).await.map(|found| (path, found))
        });
        let found = stream::iter(found.collect::<Vec<_>>());
        let found: Vec<_> = found.buffer_unordered(SMALL).try_collect().await?;
        for (path, found) in found {
            let stored = match found {
                Found::Absent | Found::Untrusted(_) => {
                    known.indexed.remove(&path);
                    continue;
                }
                Found::Same(stored) => stored,
                Found::Other(stored) => {
                    published.irreproducible.push(path);
                    stored
                }
            };
            known.narinfos.insert(path);
            if stored.is_old {
                old.push((path, stored.bytes));
            }
        }
        let outside: HashSet<_> = items.iter().flat_map(|item| &item.references).copied().collect();
        let is_open = |reference: &HashPart| !by_path.contains_key(reference) && !known.narinfos.contains(reference);
        let heads = outside.into_iter().filter(is_open).map(|reference| async move {
            let head = self.store.head(&ObjectName::NarInfo(reference), Patience::Background).await;
            head.map(|head| head.map(|_| reference))
        });
        let heads = stream::iter(heads.collect::<Vec<_>>());
        let heads: Vec<_> = heads.buffer_unordered(SMALL).try_collect().await?;
        known.narinfos.extend(heads.into_iter().flatten());
        Ok(known)
    }

    /// Returns whether the bucket has a narinfo of a path that a trusted key has signed.
    pub(super) async fn has(&self, path: HashPart, patience: Patience) -> Result<bool, BucketError> {
        let bytes = self.store.get(&ObjectName::NarInfo(path), MAX_NARINFO, patience).await?;
        let narinfo = bytes.and_then(|bytes| BucketNarInfo::parse(&bytes, path, self.directory).ok());
        Ok(narinfo.is_some_and(|narinfo| self.trusts(&narinfo)))
    }

    /// Returns what the narinfo of a path in the bucket says. One that cannot be used counts as absent. One that no trusted key
    /// has signed is replaced if one has signed ours.
    pub(super) async fn find(
        &self,
        path: HashPart,
        nar_hash: NarHash,
        is_ours_trusted: impl FnOnce() -> bool,
    ) -> Result<Found, BucketError> {
        let got = self.store.get_dated(&ObjectName::NarInfo(path), MAX_NARINFO, Patience::Background).await?;
        let Some((bytes, modified)) = got else { return Ok(Found::Absent) };
        let Ok(found) = BucketNarInfo::parse(&bytes, path, self.directory) else { return Ok(Found::Absent) };
        let is_old = SystemTime::now().duration_since(modified).is_ok_and(|age| age > OLD);
        let (is_same, is_trusted) = (found.nar_hash() == nar_hash, self.trusts(&found));
        let stored = Box::new(Stored { narinfo: found, bytes, is_old });
        Ok(match is_same {
            _ if !is_trusted && is_ours_trusted() => Found::Untrusted(stored),
            true => Found::Same(stored),
            false => Found::Other(stored),
        })
    }

    /// Returns whether a trusted key has signed a narinfo, or that does not matter.
    pub(super) fn trusts(&self, narinfo: &BucketNarInfo) -> bool {
        self.trusted.is_empty() || narinfo.check_signed(&self.trusted, self.directory).is_ok()
    }

    /// Returns whether a trusted key has made one of these signatures, or that does not matter.
    pub(super) fn trusts_signatures(&self, path: &StorePath, info: &PathInfo, signatures: &[Signature]) -> bool {
        self.trusted.is_empty() || is_signed_by(path, info, signatures, &self.trusted, self.directory)
    }
}
