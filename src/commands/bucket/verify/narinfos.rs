//! Checks narinfos: what they say, who has signed it, and whether the objects that they name are there.

use std::collections::HashMap;
use std::sync::Arc;

use harmonia_protocol::HashPart;
use tokio::task::JoinSet;

use super::against::Against;
use crate::bucket::{
    BucketError, BucketNarInfo, MAX_CACHE_INFO, MAX_NARINFO, NarFile, ObjectName, Patience, check_cache_info,
};
use crate::commands::progress;

/// Narinfos that are read at a time.
const READS: usize = 16;

/// Files of NARs, with the narinfos that name them.
pub(super) type Files = HashMap<NarFile, Vec<BucketNarInfo>>;

/// Result of a narinfo.
enum Checked {
    Good(Box<BucketNarInfo>),
    Faulty(String),
    /// Deleted since it was listed.
    Gone,
}

/// Returns what is wrong with `nix-cache-info`, without which clients do not use a cache.
pub(super) async fn cache_info(against: &Against) -> Result<Option<String>, BucketError> {
    let name = ObjectName::CacheInfo;
    let Some(bytes) = against.store.get(&name, MAX_CACHE_INFO, Patience::Background).await? else {
        let is_empty = against.listed.paths(Some(1)).is_empty();
        return Ok((!is_empty).then(|| format!("{name}: it is not there, so that Nix does not use the bucket")));
    };
    let other = check_cache_info(&bytes, &against.directory).err();
    Ok(other.map(|other| format!("{name}: it is of {other}, not of {}", against.directory)))
}

/// Checks these narinfos. Returns the files that the good ones name, and the faults.
pub(super) async fn check_all(
    against: &Arc<Against>,
    paths: Vec<HashPart>,
) -> Result<(Files, Vec<String>), BucketError> {
    let (mut files, mut faults, mut running) = (Files::new(), Vec::new(), JoinSet::new());
    let bar = progress::counter(paths.len(), "narinfos");
    let mut paths = paths.into_iter();
    loop {
        while running.len() < READS {
            let Some(path) = paths.next() else { break };
            let against = Arc::clone(against);
            running.spawn(async move { (path, check(&against, path).await) });
        }
        let Some(checked) = running.join_next().await else { break };
        bar.done();
        let (path, checked) = match checked {
            Ok(checked) => checked,
            Err(panicked) => {
                faults.push(panicked.to_string());
                continue;
            }
        };
        match checked? {
            Checked::Good(narinfo) => files.entry(narinfo.file()).or_default().push(*narinfo),
            Checked::Faulty(fault) => faults.push(format!("{}: {fault}", ObjectName::NarInfo(path))),
            Checked::Gone => {}
        }
    }
    faults.sort();
    Ok((files, faults))
}

async fn check(against: &Against, path: HashPart) -> Result<Checked, BucketError> {
    let Against { store, directory, keys, listed } = against;
    let fault = |fault: &dyn std::fmt::Display| Ok(Checked::Faulty(fault.to_string()));
    let Some(bytes) = store.get(&ObjectName::NarInfo(path), MAX_NARINFO, Patience::Background).await? else {
        return Ok(Checked::Gone);
    };
    let narinfo = match BucketNarInfo::parse(&bytes, path, directory) {
        Ok(narinfo) => narinfo,
        Err(error) => return fault(&error),
    };
    if !keys.is_empty() {
        if let Err(error) = narinfo.check_signed(keys, directory) {
            return fault(&format_args!("{}: {error}", narinfo.path()));
        }
    }
    for reference in narinfo.references().filter(|reference| !listed.has(reference)) {
        // Published since, or left out by the listing.
        if store.head(&ObjectName::NarInfo(reference), Patience::Background).await?.is_none() {
            return fault(&format_args!("{}: its reference {reference} is not there", narinfo.path()));
        }
    }
    let (file, file_size) = (narinfo.file(), narinfo.file_size());
    let found = match listed.file_size(&file) {
        None => store.head(&ObjectName::Nar(file), Patience::Background).await?.map(|info| info.size),
        found => found,
    };
    match found {
        None => fault(&format_args!("{}: nar/{file} is not there", narinfo.path())),
        Some(found) if found != file_size => {
            fault(&format_args!("{}: nar/{file} has {found} bytes, but FileSize is {file_size}", narinfo.path()))
        }
        Some(_) => Ok(Checked::Good(Box::new(narinfo))),
    }
}
