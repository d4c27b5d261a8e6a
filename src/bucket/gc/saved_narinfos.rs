//! Narinfos that a run deletes, kept in one object for as long as their NARs are: to undo the run is to put them back.
//!
//! The object is one zstd frame of narinfos, each after its length in bytes on a line, in the order of the plan.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::{HashPart, StoreDir};

use super::compaction::Merged;
use super::error::GcError;
use super::lease::Lease;
use super::plan::GcPlan;
use super::runs::is_there;
use crate::bucket::engine::{BucketError, BucketStore, Patience, Put, Replace};
use crate::bucket::narinfo::{BucketNarInfo, MAX_NARINFO};
use crate::bucket::object_name::{GcObject, ObjectName, RunId, SegmentId};
use crate::config::HostName;

/// Upper bound of the size of all narinfos of a run, in bytes. What does not fit is deleted by the next one.
const MAX_PLAIN: usize = 64 << 20;
/// Upper bound of the object's size, in bytes.
const MAX_SAVED: usize = MAX_PLAIN;
const LEVEL: i32 = 3;
/// Narinfos that are read or looked up at a time.
const READS: usize = 16;

/// Reads the narinfos of a plan, and cuts the plan to those that fit.
pub(super) async fn save(store: &BucketStore, plan: &mut GcPlan) -> Result<Bytes, GcError> {
    let reads = stream::iter(plan.narinfos.clone())
        .map(|path| async move { store.get(&ObjectName::NarInfo(path), MAX_NARINFO, Patience::Background).await });
    let mut reads = reads.buffered(READS);
    let (mut all, mut saved) = (Vec::new(), 0);
    while let Some(narinfo) = reads.try_next().await? {
        let narinfo = narinfo.unwrap_or_default();
        if all.len() + narinfo.len() + 16 > MAX_PLAIN {
            break;
        }
        all.extend_from_slice(format!("{}\n", narinfo.len()).as_bytes());
        all.extend_from_slice(&narinfo);
        saved += 1;
    }
    plan.narinfos.truncate(saved);
    let compressed = zstd::bulk::compress(&all, LEVEL).map_err(|cause| GcError::System(cause.to_string()))?;
    Ok(compressed.into())
}

/// Result of undoing a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Undone {
    /// Narinfos that were put back.
    pub(crate) restored: usize,
    /// Narinfos that were there.
    pub(crate) there: usize,
    /// Narinfos whose NAR or a reference is gone.
    pub(crate) lost: usize,
}

/// Puts the narinfos back that a run has deleted, references first, if their NARs and references are there; `None` if nothing is
/// known of the run. No garbage collection runs meanwhile.
pub(crate) async fn undo(
    store: &Arc<BucketStore>,
    directory: &StoreDir,
    host: &HostName,
    run: RunId,
) -> Result<Option<Undone>, GcError> {
    let lease = Lease::acquire(store, host).await?;
    let (taken, now) = (lease.run(), SegmentId::epoch_of(lease.server_time()));
    if is_there(store, taken, GcObject::Plan).await? {
        return Err(GcError::Unfinished(taken));
    }
    let undone = lease.during(put_back(store, directory, host, run, now)).await;
    store.delete(&ObjectName::Gc(taken, GcObject::Lease)).await?;
    undone
}

async fn put_back(
    store: &Arc<BucketStore>,
    directory: &StoreDir,
    host: &HostName,
    run: RunId,
    now: u64,
) -> Result<Option<Undone>, GcError> {
    let name = ObjectName::Gc(run, GcObject::NarInfos);
    let Some(bytes) = store.get(&name, MAX_SAVED, Patience::Background).await? else { return Ok(None) };
    let refuse = || GcError::Object { object: name.to_string(), cause: "not a list of narinfos".to_owned() };
    let plain = zstd::bulk::decompress(&bytes, MAX_PLAIN).map_err(|_| refuse())?;
    let (mut undone, mut restored) = (Undone::default(), Merged::default());
    // The last ones are references of those before.
    for text in split(&plain).ok_or_else(refuse)?.into_iter().rev().filter(|text| !text.is_empty()) {
        let Some((path, narinfo)) = parse(text, directory) else {
            undone.lost += 1;
            continue;
        };
        let objects = narinfo.references().map(ObjectName::NarInfo).chain([ObjectName::Nar(narinfo.file())]);
        let heads = stream::iter(objects)
            .map(|name| async move { Ok::<_, BucketError>(store.head(&name, Patience::Background).await?.is_some()) });
        if !heads.buffer_unordered(READS).try_all(std::future::ready).await? {
            undone.lost += 1;
            continue;
        }
        match store.put(&ObjectName::NarInfo(path), Bytes::copy_from_slice(text), Replace::IfAbsent).await? {
            Put::Written => {
                undone.restored += 1;
                restored.paths.insert(path);
            }
            Put::Existed => undone.there += 1,
        }
    }
    restored.put(store, host, now).await?;
    Ok(Some(undone))
}

fn split(mut plain: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    while !plain.is_empty() {
        let end = plain.iter().take(16).position(|byte| *byte == b'\n')?;
        let length: usize = std::str::from_utf8(&plain[..end]).ok()?.parse().ok()?;
        let (text, rest) = plain[end + 1..].split_at_checked(length)?;
        all.push(text);
        plain = rest;
    }
    Some(all)
}

fn parse(text: &[u8], directory: &StoreDir) -> Option<(HashPart, BucketNarInfo)> {
    let line = std::str::from_utf8(text).ok()?.lines().find_map(|line| line.strip_prefix("StorePath: "))?;
    let path = harmonia_protocol::StorePath::from_base_name(line.rsplit('/').next()?).ok()?.hash_part();
    BucketNarInfo::parse(text, path, directory).ok().map(|narinfo| (path, narinfo))
}
