//! Garbage collection and publishers at the same time, by the real planners, in a model of the bucket.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use harmonia_protocol::HashPart;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::bucket::file_hash::NarFile;
use crate::bucket::gc::plan::{GcPlan, Policy, Snapshot, StoredNarInfo};
use crate::bucket::gc::runs::Condemned;
use crate::bucket::object_name::RunId;
use crate::bucket::publish::plan::tests::{file, part};
use crate::bucket::publish::plan::{Item, Known, Plan};
use crate::bucket::publish::publisher::needs_any;

const DAY: u64 = 86_400;

fn policy(now: u64) -> Policy {
    Policy { now, keep_used: 90 * DAY, keep_young: DAY, keep_unnamed: 30 * DAY }
}

fn stored(number: u64, references: &[u64], modified: u64) -> (HashPart, StoredNarInfo) {
    let references = references.iter().map(|it| part(*it)).collect();
    (part(number), StoredNarInfo { references, file: file(number), modified })
}

/// A bucket of paths that refer to those of smaller numbers.
fn bucket(paths: &[(u64, &[u64])]) -> Snapshot {
    Snapshot {
        narinfos: paths.iter().map(|(number, references)| stored(*number, references, 0)).collect(),
        nars: paths.iter().map(|(number, _)| (file(*number), 0)).collect(),
    }
}

fn plan(snapshot: &Snapshot, roots: &[u64], unnamed: &BTreeMap<NarFile, u64>, now: u64) -> GcPlan {
    let roots = roots.iter().map(|it| part(*it)).collect();
    GcPlan::new(snapshot, &roots, &BTreeMap::new(), unnamed, policy(now))
}

#[test]
fn what_nobody_keeps_goes_with_its_referrers_first() {
    let snapshot = bucket(&[(1, &[]), (2, &[1]), (3, &[2, 1]), (4, &[1])]);
    let plan = plan(&snapshot, &[4], &BTreeMap::new(), 100 * DAY);
    assert_eq!(plan.narinfos, [part(3), part(2)]);
    assert!(plan.nars.is_empty(), "clients remember the narinfos");
    assert_eq!(plan.unnamed, [(file(2), 100 * DAY), (file(3), 100 * DAY)].into());
}

#[test]
fn what_is_young_or_used_is_kept_with_its_closure() {
    let mut snapshot = bucket(&[(1, &[]), (2, &[1]), (3, &[]), (4, &[3])]);
    snapshot.narinfos.get_mut(&part(2)).unwrap().modified = 100 * DAY;
    let used = [(part(4), 20 * DAY)].into();
    let none = (HashSet::new(), BTreeMap::new());
    let plan = GcPlan::new(&snapshot, &none.0, &used, &none.1, policy(100 * DAY));
    assert_eq!(plan.narinfos, []);
    let plan = GcPlan::new(&snapshot, &none.0, &used, &none.1, policy(120 * DAY));
    assert_eq!(plan.narinfos.len(), 4);
}

#[test]
fn a_nar_goes_when_no_narinfo_has_named_it_for_a_month() {
    let mut snapshot = bucket(&[(1, &[]), (2, &[])]);
    let first = plan(&snapshot, &[1], &BTreeMap::new(), 100 * DAY);
    snapshot.narinfos.remove(&part(2));
    let second = plan(&snapshot, &[1], &first.unnamed, 129 * DAY);
    assert_eq!((second.nars.len(), second.unnamed.clone()), (0, first.unnamed));
    let third = plan(&snapshot, &[1], &second.unnamed, 131 * DAY);
    assert_eq!((third.nars, third.unnamed.len()), (vec![file(2)], 0));
    // A run that was undone counts for nothing: clients may have asked for the narinfo an hour ago.
    let undone = plan(&bucket(&[(1, &[]), (2, &[])]), &[1], &second.unnamed, 131 * DAY);
    assert_eq!((undone.narinfos, undone.nars, undone.unnamed), (vec![part(2)], vec![], [(file(2), 131 * DAY)].into()));
    // One that was put again meanwhile is the start of a publisher.
    snapshot.nars.insert(file(2), 130 * DAY);
    assert_eq!(plan(&snapshot, &[1], &second.unnamed, 131 * DAY).nars, []);
}

/// Next step of a publisher.
#[derive(Debug, Clone)]
enum Phase {
    /// Reads what is there and which plans are, and puts files of NARs.
    Start,
    /// Reads the plans again. It relies on what it has found and put, as of the first so many plans.
    Decide { known: Known, plans: usize },
    /// Puts narinfos in this order.
    Puts { order: Vec<HashPart>, next: usize },
}

#[derive(Debug, Clone)]
struct Publisher {
    items: Vec<Item>,
    phase: Phase,
}

/// Next step of the garbage collection.
#[derive(Debug, Clone)]
enum Run {
    Idle,
    /// The plan is in the bucket, and it waits for publishers that put narinfos.
    Waiting(GcPlan, Vec<usize>),
    /// It deletes; narinfos, then NARs.
    Deleting(GcPlan, usize),
}

#[derive(Debug)]
struct Model {
    bucket: Snapshot,
    publishers: Vec<Publisher>,
    run: Run,
    /// All plans that ever were.
    plans: Vec<Condemned>,
    roots: HashSet<HashPart>,
    now: u64,
}

impl Model {
    /// One step of a publisher.
    fn publish(&mut self, number: usize) {
        let publisher = &mut self.publishers[number];
        publisher.phase = match std::mem::replace(&mut publisher.phase, Phase::Start) {
            Phase::Start => {
                let open = if let Run::Idle = self.run { None } else { self.plans.last() };
                // It has to put what a run deletes, so it waits for its end.
                if open.is_some_and(|condemned| needs_any(&publisher.items, condemned)) {
                    return;
                }
                let mut known = Known {
                    narinfos: self.bucket.narinfos.keys().copied().collect(),
                    nars: self.bucket.nars.keys().copied().collect(),
                    indexed: HashSet::new(),
                };
                let plan = Plan::new(&publisher.items, &known, &HashSet::new());
                let nars = plan.nars.iter().map(|(file, _)| *file);
                self.bucket.nars.extend(nars.clone().map(|file| (file, self.now)));
                known.nars.extend(nars);
                Phase::Decide { known, plans: self.plans.len() }
            }
            Phase::Decide { known, plans } => {
                let plan = Plan::new(&publisher.items, &known, &HashSet::new());
                if self.plans[plans..].iter().any(|condemned| needs_any(&publisher.items, condemned)) {
                    Phase::Start
                } else {
                    Phase::Puts { order: plan.rounds.into_iter().flatten().collect(), next: 0 }
                }
            }
            Phase::Puts { order, next } => {
                let Some(path) = order.get(next) else { return };
                let item = publisher.items.iter().find(|item| item.path == *path).unwrap();
                let narinfo =
                    StoredNarInfo { references: item.references.clone(), file: item.file, modified: self.now };
                self.bucket.narinfos.insert(*path, narinfo);
                Phase::Puts { order, next: next + 1 }
            }
        };
    }

    /// One step of the garbage collection.
    fn collect(&mut self) {
        self.run = match std::mem::replace(&mut self.run, Run::Idle) {
            Run::Idle => {
                // Unnamed for long enough, so that they go at once: the hardest case.
                let unnamed = self.bucket.nars.keys().map(|file| (*file, 0)).collect();
                let policy = Policy { now: self.now, keep_used: 0, keep_young: 3, keep_unnamed: 5 };
                let plan = GcPlan::new(&self.bucket, &self.roots, &BTreeMap::new(), &unnamed, policy);
                let is_busy = |(_, publisher): &(usize, &Publisher)| matches!(publisher.phase, Phase::Puts { .. });
                let busy = self.publishers.iter().enumerate().filter(is_busy).map(|(number, _)| number).collect();
                self.plans.push(Condemned::new(RunId(1), plan.clone()));
                Run::Waiting(plan, busy)
            }
            Run::Waiting(mut plan, mut busy) => {
                busy.retain(|number| matches!(self.publishers[*number].phase, Phase::Puts { .. }));
                if busy.is_empty() {
                    plan.spare(&self.bucket, |_, _| false);
                    Run::Deleting(plan, 0)
                } else {
                    Run::Waiting(plan, busy)
                }
            }
            Run::Deleting(plan, at) => {
                if let Some(path) = plan.narinfos.get(at) {
                    self.bucket.narinfos.remove(path);
                } else if let Some(file) = plan.nars.get(at - plan.narinfos.len()) {
                    self.bucket.nars.remove(file);
                } else {
                    return;
                }
                Run::Deleting(plan, at + 1)
            }
        };
    }

    /// Returns what is missing.
    fn gap(&self) -> Option<String> {
        self.bucket.narinfos.iter().find_map(|(path, narinfo)| {
            let lacks_nar = !self.bucket.nars.contains_key(&narinfo.file);
            let lacks = narinfo.references.iter().find(|reference| !self.bucket.narinfos.contains_key(reference));
            (lacks_nar || lacks.is_some()).then(|| format!("{path:?} lacks {lacks:?} or its NAR"))
        })
    }
}

/// Paths that refer to those of smaller numbers.
fn paths(count: usize) -> impl Strategy<Value = Vec<Item>> {
    vec(vec(any::<prop::sample::Index>(), 0..3), count).prop_map(|paths| {
        let item = |(number, references): (usize, Vec<prop::sample::Index>)| {
            let below = references.iter().filter(|_| number > 0).map(|index| part(index.index(number.max(1)) as u64));
            let references = below.collect::<BTreeSet<_>>().into_iter().collect();
            Item { path: part(number as u64), file: file(number as u64), file_size: 1, references }
        };
        paths.into_iter().enumerate().map(item).collect()
    })
}

/// A bucket, its publishers, and what happens.
#[derive(Debug)]
struct Schedule {
    all: Vec<Item>,
    /// Paths that are there, and files of NARs, which may be more.
    stored: (usize, usize),
    roots: Vec<u64>,
    /// Some publish whole closures, some rely on what is in the bucket.
    publishers: Vec<Vec<usize>>,
    steps: Vec<usize>,
}

fn run(Schedule { all, stored: (paths, files), roots, publishers, steps }: Schedule) -> Result<(), TestCaseError> {
    let old = |item: &Item| StoredNarInfo { references: item.references.clone(), file: item.file, modified: 0 };
    let publisher = |numbers: Vec<usize>| {
        let items = numbers.into_iter().map(|number| all[number].clone()).collect();
        Publisher { items, phase: Phase::Start }
    };
    let mut model = Model {
        bucket: Snapshot {
            narinfos: all[..paths].iter().map(|item| (item.path, old(item))).collect(),
            nars: all[..paths.max(files)].iter().map(|item| (item.file, 0)).collect(),
        },
        publishers: publishers.into_iter().map(publisher).collect(),
        run: Run::Idle,
        plans: Vec::new(),
        roots: roots.into_iter().map(part).collect(),
        now: 100,
    };
    prop_assert_eq!(model.gap(), None);
    for step in steps {
        match step {
            0..=3 => {
                let number = step % model.publishers.len();
                model.publish(number);
            }
            4..=6 => model.collect(),
            7 => model.now += 2,
            _ => model.publishers[0].phase = Phase::Start,
        }
        prop_assert_eq!(model.gap(), None);
    }
    Ok(())
}

/// Failed when a publisher looked only at what it had found, and not at what it was going to put, for plans that are new.
#[test]
fn a_path_that_another_host_has_put_and_a_run_condemns_meanwhile_is_not_put_again() {
    let references = |number| if [3, 5, 7, 9].contains(&number) { vec![part(0)] } else { Vec::new() };
    let item = |number| Item { path: part(number), file: file(number), file_size: 1, references: references(number) };
    let schedule = Schedule {
        all: (0..10).map(item).collect(),
        stored: (0, 0),
        roots: Vec::new(),
        publishers: vec![vec![0], vec![5, 0], vec![3]],
        steps: vec![2, 2, 3, 2, 1, 3, 3, 7, 8, 4, 4, 7, 4, 4, 1, 1, 2, 2, 2, 4, 4, 1],
    };
    run(schedule).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_schedule_leaves_a_narinfo_without_its_nar_or_a_reference(
        all in paths(10),
        stored in (0usize..10, 0usize..10),
        roots in vec(0u64..10, 0..2),
        publishers in vec(vec(0usize..10, 1..5), 1..4),
        steps in vec(0usize..9, 0..120),
    ) {
        run(Schedule { all, stored, roots, publishers, steps })?;
    }

    #[test]
    fn a_run_keeps_the_closures_of_its_roots_and_ends_with_the_rest_gone(all in paths(12), roots in vec(0u64..12, 0..3)) {
        let narinfo = |item: &Item| StoredNarInfo { references: item.references.clone(), file: item.file, modified: 0 };
        let snapshot = Snapshot {
            narinfos: all.iter().map(|item| (item.path, narinfo(item))).collect(),
            nars: all.iter().map(|item| (item.file, 0)).collect(),
        };
        let plan = plan(&snapshot, &roots, &BTreeMap::new(), 1_000 * DAY);
        let mut kept: BTreeSet<_> = roots.iter().map(|number| part(*number)).collect();
        for item in all.iter().rev() {
            if kept.contains(&item.path) {
                kept.extend(&item.references);
            }
        }
        let gone: BTreeSet<_> = plan.narinfos.iter().copied().collect();
        prop_assert!(gone.len() == plan.narinfos.len());
        for item in &all {
            prop_assert!(gone.contains(&item.path) != kept.contains(&item.path));
        }
    }
}
