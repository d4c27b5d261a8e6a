//! Plan of a garbage collection: a pure function of what is in the bucket.
//!
//! Kept is the closure of what is pinned, of what live hosts root, of what was used lately, and of what is young. Narinfos of all
//! else are deleted, referrers before references, so that a run that stops leaves no narinfo without a reference. Files of
//! NARs are deleted when no narinfo has named them for as long as clients remember a narinfo.
//!
//! # A publisher at the same time
//!
//! A plan is put into the bucket before anything is deleted. A publisher notes which plans are there when it begins, counts what
//! runs that are not done condemn as missing, and puts such objects only after the run is done. Before its first narinfo it
//! reads the plans again; if one that is new condemns what it relies on, it begins anew. Then it puts its narinfos within a
//! bounded time, or begins anew. A run waits for longer than that, reads what was published since, and spares its closure
//! ([`GcPlan::spare`]). So whoever relies on a condemned object has begun to put narinfos before the plan was there, and is
//! seen.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use harmonia_protocol::HashPart;

use crate::bucket::file_hash::NarFile;

/// A narinfo in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredNarInfo {
    /// Hash parts of its references, without its own.
    pub(crate) references: Vec<HashPart>,
    /// File of its NAR.
    pub(crate) file: NarFile,
    /// Time of its last put, in seconds since 1970.
    pub(crate) modified: u64,
}

/// Narinfos and files of NARs in the bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Narinfos by the hash part of their path.
    pub(crate) narinfos: BTreeMap<HashPart, StoredNarInfo>,
    /// Files of NARs, with the time of their last put in seconds since 1970.
    pub(crate) nars: BTreeMap<NarFile, u64>,
}

/// Times in seconds for which paths and files are kept, apart from pins and roots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Time of the snapshot, since 1970.
    pub(crate) now: u64,
    /// Age up to which a path is kept after it was last used.
    pub(crate) keep_used: u64,
    /// Age up to which an object is kept after it was put.
    pub(crate) keep_young: u64,
    /// Time for which a NAR stays without a narinfo. Nix remembers narinfos for 30 days.
    pub(crate) keep_unnamed: u64,
}

/// Objects that a run deletes, and those that a later one may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GcPlan {
    /// Paths whose narinfos are deleted, referrers before references.
    pub(crate) narinfos: Vec<HashPart>,
    /// Files of NARs that are deleted after that, in ascending order.
    pub(crate) nars: Vec<NarFile>,
    /// Files of NARs that no narinfo will name after the run, and since when, in seconds since 1970. The next run gets this.
    pub(crate) unnamed: BTreeMap<NarFile, u64>,
}

impl GcPlan {
    /// Plans a run. `roots` are pins and what live hosts root, `used` is when paths were last used, and `unnamed` is what the last
    /// run has left.
    pub(crate) fn new(
        snapshot: &Snapshot,
        roots: &HashSet<HashPart>,
        used: &BTreeMap<HashPart, u64>,
        unnamed: &BTreeMap<NarFile, u64>,
        policy: Policy,
    ) -> Self {
        let within = |time: u64, age: u64| policy.now.saturating_sub(time) <= age;
        let is_kept = |(path, narinfo): (&HashPart, &StoredNarInfo)| {
            let is_used = used.get(path).is_some_and(|time| within(*time, policy.keep_used));
            (roots.contains(path) || is_used || within(narinfo.modified, policy.keep_young)).then_some(*path)
        };
        let kept = closure(snapshot, snapshot.narinfos.iter().filter_map(is_kept));
        let condemned: BTreeSet<_> = snapshot.narinfos.keys().filter(|path| !kept.contains(path)).copied().collect();
        let mut plan = Self { narinfos: referrers_first(snapshot, &condemned), ..Self::default() };
        let named: BTreeSet<_> = kept.iter().filter_map(|path| snapshot.narinfos.get(path)).map(|it| it.file).collect();
        // Until now, whatever the last run has left: a run may have been undone, or a path published again.
        let was_named: BTreeSet<_> = snapshot.narinfos.values().map(|narinfo| narinfo.file).collect();
        for (file, modified) in snapshot.nars.iter().filter(|(file, _)| !named.contains(file)) {
            let since = unnamed.get(file).filter(|_| !was_named.contains(file)).copied().unwrap_or(policy.now);
            if within(since, policy.keep_unnamed) || within(*modified, policy.keep_unnamed) {
                plan.unnamed.insert(*file, since);
            } else {
                plan.nars.push(*file);
            }
        }
        plan
    }

    /// Takes back whatever narinfos need that were put since the plan: they, their closures, and all of their files. `now` is the
    /// bucket after the time for which publishers may rely on what was there before the plan.
    pub(crate) fn spare(&mut self, now: &Snapshot, is_new: impl Fn(&HashPart, &StoredNarInfo) -> bool) {
        let condemned: HashSet<_> = self.narinfos.iter().copied().collect();
        // Whatever is not condemned stays, be it new or old, and so does what it refers to.
        let stays = now.narinfos.iter().filter(|(path, narinfo)| !condemned.contains(path) || is_new(path, narinfo));
        let kept = closure(now, stays.map(|(path, _)| *path));
        self.narinfos.retain(|path| !kept.contains(path));
        let named: HashSet<_> = kept.iter().filter_map(|path| now.narinfos.get(path)).map(|it| it.file).collect();
        self.nars.retain(|file| !named.contains(file));
        self.unnamed.retain(|file, _| !named.contains(file));
    }
}

/// Returns these paths and whatever they need, as far as it is there.
fn closure(snapshot: &Snapshot, roots: impl Iterator<Item = HashPart>) -> BTreeSet<HashPart> {
    let mut found: BTreeSet<_> = roots.collect();
    let mut next: Vec<_> = found.iter().copied().collect();
    while let Some(path) = next.pop() {
        let references = snapshot.narinfos.get(&path).into_iter().flat_map(|narinfo| &narinfo.references);
        for reference in references.filter(|reference| snapshot.narinfos.contains_key(reference)) {
            if found.insert(*reference) {
                next.push(*reference);
            }
        }
    }
    found
}

/// Orders paths so that each comes before its references.
fn referrers_first(snapshot: &Snapshot, paths: &BTreeSet<HashPart>) -> Vec<HashPart> {
    let references = |path: &HashPart| {
        let all = snapshot.narinfos.get(path).into_iter().flat_map(|narinfo| &narinfo.references).copied();
        // A narinfo may name a reference twice, or the path itself.
        let other: BTreeSet<_> = all.filter(|reference| reference != path && paths.contains(reference)).collect();
        other
    };
    let mut referrers: BTreeMap<HashPart, usize> = paths.iter().map(|path| (*path, 0)).collect();
    for reference in paths.iter().flat_map(references) {
        *referrers.entry(reference).or_default() += 1;
    }
    let mut ready: BTreeSet<_> = referrers.iter().filter(|(_, count)| **count == 0).map(|(path, _)| *path).collect();
    let mut order = Vec::with_capacity(paths.len());
    while let Some(path) = ready.pop_first() {
        referrers.remove(&path);
        for reference in references(&path) {
            if let Some(count) = referrers.get_mut(&reference) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(reference);
                }
            }
        }
        order.push(path);
    }
    // Paths that refer to each other in a circle, which Nix does not make, are left alone.
    order
}
