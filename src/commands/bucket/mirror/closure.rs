//! Narinfos of the closures that are mirrored, as far as the target lacks them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use harmonia_protocol::narinfo::NarInfo;
use harmonia_protocol::signature::PublicKey;
use harmonia_protocol::{HashPart, StoreDir, StorePath};
use tokio::task::JoinSet;

use super::source::Source;
use super::target::Target;
use crate::bucket::{BucketError, BucketNarInfo, ObjectName, Patience, is_signed};
use crate::commands::progress;
use crate::push::nar_check::Expected;

/// Narinfos that are read at a time.
const READS: usize = 24;

/// Paths that are copied.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Paths, references before referrers.
    pub(super) paths: Vec<Mirrored>,
    /// Each line is about a path that cannot be copied.
    pub(super) faults: Vec<String>,
}

/// A path of the source, whose narinfo a trusted key has signed.
#[derive(Debug, Clone)]
pub(super) struct Mirrored {
    pub(super) narinfo: NarInfo,
    /// URL of the file in the source.
    pub(super) url: String,
}

impl Mirrored {
    /// Returns the size of the NAR, in bytes.
    pub(super) const fn nar_size(&self) -> u64 {
        self.narinfo.nar_size
    }

    /// Returns what the narinfo says about the NAR.
    pub(super) fn expected(&self) -> Expected {
        let NarInfo { nar_size, nar_hash, content_address, .. } = &self.narinfo;
        Expected { nar_size: *nar_size, nar_hash: *nar_hash, content_address: content_address.clone() }
    }

    fn references(&self) -> impl Iterator<Item = &StorePath> {
        self.narinfo.references.iter().filter(|reference| reference.hash_part() != self.narinfo.path.hash_part())
    }
}

/// Result of looking for a path.
enum Found {
    /// The target has it, and so its closure.
    There,
    Here(Box<Mirrored>),
    Fault(String),
}

/// Reads narinfos from these paths on, and orders them.
pub(super) async fn read(
    source: &Arc<Source>,
    target: &Target,
    roots: Vec<StorePath>,
    keys: Vec<PublicKey>,
) -> Result<Closure, BucketError> {
    let keys: Arc<[PublicKey]> = keys.into();
    let mut seen: HashSet<_> = roots.iter().map(StorePath::hash_part).collect();
    let bar = progress::counter(roots.len(), "narinfos");
    let (mut waiting, mut running) = (roots, JoinSet::new());
    let (mut found, mut there, mut faults) = (BTreeMap::new(), HashSet::new(), Vec::new());
    loop {
        while running.len() < READS {
            let Some(path) = waiting.pop() else { break };
            let (source, store, directory) = (Arc::clone(source), Arc::clone(&target.store), target.directory.clone());
            let keys = Arc::clone(&keys);
            running.spawn(async move {
                let name = ObjectName::NarInfo(path.hash_part());
                let result = match store.head(&name, Patience::Background).await {
                    Ok(Some(_)) => Ok(Found::There),
                    Ok(None) => look_up(&source, &path, &directory, &keys).await,
                    Err(error) => Err(error),
                };
                (path, result)
            });
        }
        let Some(result) = running.join_next().await else { break };
        bar.done();
        let (path, result) = match result {
            Ok(result) => result,
            Err(panicked) => {
                faults.push(panicked.to_string());
                continue;
            }
        };
        match result? {
            Found::There => drop(there.insert(path.hash_part())),
            Found::Fault(fault) => faults.push(format!("{path}: {fault}")),
            Found::Here(mirrored) => {
                for reference in mirrored.references().filter(|it| seen.insert(it.hash_part())) {
                    bar.more();
                    waiting.push(reference.clone());
                }
                found.insert(path.hash_part(), *mirrored);
            }
        }
    }
    Ok(order(found, &there, faults))
}

/// Gets the narinfo of a path, and checks who has signed it.
async fn look_up(
    source: &Source,
    path: &StorePath,
    directory: &StoreDir,
    keys: &[PublicKey],
) -> Result<Found, BucketError> {
    let fault = |fault: &dyn std::fmt::Display| Ok(Found::Fault(fault.to_string()));
    let Some(bytes) = source.narinfo(path.hash_part()).await? else {
        return fault(&"the other cache does not have it");
    };
    let (narinfo, url) = match parse(&bytes, directory) {
        Ok(parsed) => parsed,
        Err(cause) => return fault(&format_args!("its narinfo cannot be used: {cause}")),
    };
    if narinfo.path != *path {
        return fault(&format_args!("its narinfo is about {}", narinfo.path));
    }
    if !is_signed(&narinfo, keys, directory) {
        return fault(&"no trusted key has signed it");
    }
    Ok(Found::Here(Box::new(Mirrored { narinfo, url })))
}

/// Parses a narinfo of another cache, whose URL may have a query, or be absolute.
fn parse(bytes: &[u8], directory: &StoreDir) -> Result<(NarInfo, String), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let line = text.lines().find(|line| line.starts_with("URL: ")).ok_or("no URL")?;
    let url = &line["URL: ".len()..];
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.is_empty() {
        return Err("malformed URL".to_owned());
    }
    let narinfo =
        NarInfo::parse(&text.replacen(line, "URL: nar/x", 1), directory).map_err(|error| error.to_string())?;
    Ok((narinfo, url.to_owned()))
}

/// Orders paths so that references come first, and leaves out those above a gap.
fn order(mut found: BTreeMap<HashPart, Mirrored>, there: &HashSet<HashPart>, mut faults: Vec<String>) -> Closure {
    let mut referrers: BTreeMap<HashPart, Vec<HashPart>> = BTreeMap::new();
    let (mut waiting, mut ready) = (BTreeMap::new(), BTreeSet::new());
    for (path, mirrored) in &found {
        let missing: BTreeSet<_> =
            mirrored.references().map(StorePath::hash_part).filter(|reference| !there.contains(reference)).collect();
        for reference in &missing {
            referrers.entry(*reference).or_default().push(*path);
        }
        if missing.is_empty() {
            ready.insert(*path);
        } else {
            waiting.insert(*path, missing.len());
        }
    }
    let mut paths = Vec::with_capacity(found.len());
    while let Some(path) = ready.pop_first() {
        for referrer in referrers.get(&path).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(referrer) {
                *count -= 1;
                if *count == 0 {
                    waiting.remove(referrer);
                    ready.insert(*referrer);
                }
            }
        }
        paths.extend(found.remove(&path));
    }
    faults.extend(found.values().map(|path| format!("{}: a reference is missing", path.narinfo.path)));
    faults.sort();
    Closure { paths, faults }
}

/// Returns the narinfo for the target: about the same path, with a file of another name.
pub(super) fn renamed(
    mirrored: &Mirrored,
    file: crate::bucket::NarFile,
    file_size: u64,
) -> Result<BucketNarInfo, String> {
    BucketNarInfo::of_file(mirrored.narinfo.clone(), file, file_size).map_err(|error| error.to_string())
}
