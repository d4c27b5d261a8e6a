//! Real publishers and real garbage collections in one bucket, with their requests and the clock in random order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use harmonia_protocol::{HashPart, StoreDir};
use object_store::memory::InMemory;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

use crate::bucket::engine::{BucketStore, Replace};
use crate::bucket::file_hash::NarFile;
use crate::bucket::gc::collector::{Ages, Collector};
use crate::bucket::gc::plan::GcPlan;
use crate::bucket::gc::progress::Progress;
use crate::bucket::gc::stored_plan::StoredPlan;
use crate::bucket::narinfo::tests::path;
use crate::bucket::object_name::{GcObject, ObjectName, RunId};
use crate::bucket::publish::publisher::Publisher;
use crate::bucket::publish::tests::Host;

const PATHS: usize = 6;

/// A bucket, and the number of writes to it.
#[derive(Clone, Default)]
struct Shared {
    memory: Arc<InMemory>,
    writes: Arc<AtomicUsize>,
}

/// Somebody who sends requests, each of which waits for its turn.
struct Actor {
    turns: Arc<Semaphore>,
    task: JoinHandle<()>,
    start: Box<dyn Fn(BucketStore) -> JoinHandle<()>>,
}

impl Actor {
    fn new(shared: &Shared, start: impl Fn(BucketStore) -> JoinHandle<()> + 'static) -> Self {
        let turns = Arc::new(Semaphore::new(0));
        let task = start(BucketStore::in_turns(&shared.memory, &turns, &shared.writes));
        Self { turns, task, start: Box::new(start) }
    }

    /// Kills it and starts it again.
    fn restart(&mut self, shared: &Shared) {
        self.task.abort();
        self.turns = Arc::new(Semaphore::new(0));
        self.task = (self.start)(BucketStore::in_turns(&shared.memory, &self.turns, &shared.writes));
    }
}

/// Paths, each with its file and those it refers to.
struct Graph {
    host: Host,
    needs: BTreeMap<HashPart, (NarFile, Vec<HashPart>)>,
}

impl Graph {
    fn new(references: &[BTreeSet<u64>]) -> Self {
        let (mut host, mut needs) = (Host::default(), BTreeMap::new());
        for (number, references) in (0..).zip(references) {
            let references: Vec<_> = references.iter().copied().collect();
            host.add(number, vec![u8::try_from(number).unwrap(); 10], &references);
            let narinfo = &host.batch.last().unwrap().narinfo;
            needs.insert(path(number).hash_part(), (narinfo.file(), narinfo.references().collect()));
        }
        Self { host, needs }
    }

    /// Returns a narinfo in the bucket whose NAR or a reference is not there.
    async fn gap(&self, store: &BucketStore) -> Option<String> {
        let names: HashSet<_> = store.list("", None, 10_000).await.unwrap().into_iter().map(|(name, _)| name).collect();
        names.iter().find_map(|name| {
            let ObjectName::NarInfo(path) = name else { return None };
            let (file, references) = &self.needs[path];
            let mut needed = references.iter().map(|path| ObjectName::NarInfo(*path)).chain([ObjectName::Nar(*file)]);
            needed.find(|needed| !names.contains(needed)).map(|needed| format!("{name} lacks {needed}"))
        })
    }
}

/// Next event.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// The actor of this number sends a request.
    Turn(usize),
    /// So many seconds pass.
    Time(u64),
    /// The actor of this number is killed and starts again.
    Kill(usize),
}

fn next() -> impl Strategy<Value = Next> {
    prop_oneof![
        // The first ones are garbage collections.
        6 => Just(Next::Turn(0)),
        11 => (1usize..5).prop_map(Next::Turn),
        2 => prop_oneof![Just(5), Just(15), Just(30)].prop_map(Next::Time),
        1 => (0usize..5, 0..4).prop_map(|(actor, chance)| if chance == 0 { Next::Kill(actor) } else { Next::Time(1) }),
    ]
}

async fn settle() {
    for _ in 0..4 {
        yield_now().await;
    }
}

/// Publishes batches one after the other.
fn publisher(shared: &Shared, host: &Host, batches: Vec<BTreeSet<usize>>, indexed: HashSet<HashPart>) -> Actor {
    let host = host.clone();
    Actor::new(shared, move |store| {
        let (host, batches, indexed) = (host.clone(), batches.clone(), indexed.clone());
        tokio::task::spawn_local(async move {
            let publisher = Publisher::new(Arc::new(store), StoreDir::default(), "a".parse().unwrap(), 1, None);
            for numbers in batches {
                let batch: Vec<_> = numbers.iter().map(|number| host.batch[*number].clone()).collect();
                // Whatever goes wrong, the next attempt begins anew.
                drop(publisher.publish(&batch, &host.files, |path| indexed.contains(path)).await);
            }
        })
    })
}

/// Runs one garbage collection after the other, for each of which everything is a year older.
fn collector(shared: &Shared) -> Actor {
    Actor::new(shared, move |store| {
        let store = Arc::new(store);
        tokio::task::spawn_local(async move {
            for number in 1.. {
                let ages = Ages { keep: Duration::ZERO, unnamed: Duration::ZERO, ahead: number * 365 * 86_400 };
                let host = "gc".parse().unwrap();
                let collector = Collector { store: Arc::clone(&store), directory: StoreDir::default(), host, ages };
                drop(collector.run(&Progress::new(&|_| {})).await);
            }
        })
    })
}

async fn run(
    references: Vec<BTreeSet<u64>>,
    (stored, files): (usize, usize),
    collectors: usize,
    batches: Vec<Vec<BTreeSet<usize>>>,
    schedule: Vec<Next>,
) -> Result<(), TestCaseError> {
    let (shared, graph) = (Shared::default(), Graph::new(&references));
    let store = BucketStore::in_memory(&shared.memory, usize::MAX);
    let old = Host { files: graph.host.files.clone(), batch: graph.host.batch[..stored].to_vec() };
    let first = Publisher::new(
        Arc::new(BucketStore::in_memory(&shared.memory, usize::MAX)),
        StoreDir::default(),
        "old".parse().unwrap(),
        1,
        None,
    );
    first.publish(&old.batch, &old.files, |_| false).await.unwrap();
    // Some NARs are there alone, and go in the first run: nobody has named them for long.
    for publication in &graph.host.batch[stored..stored.max(files)] {
        let file = publication.narinfo.file();
        let bytes = graph.host.files.0[&file].clone();
        store.put(&ObjectName::Nar(file), bytes, Replace::Always).await.unwrap();
    }
    let unnamed = graph.needs.values().map(|(file, _)| (*file, 0)).collect();
    let done = StoredPlan { token: "old".into(), plan: GcPlan { unnamed, ..GcPlan::default() } }.encode().unwrap();
    store.put(&ObjectName::Gc(RunId(1), GcObject::Done), done.into(), Replace::Always).await.unwrap();
    let indexed: HashSet<_> = old.batch.iter().map(crate::bucket::publish::batch::Publication::path).collect();
    let mut actors: Vec<_> = (0..collectors).map(|_| collector(&shared)).collect();
    for (number, batches) in batches.into_iter().enumerate() {
        // Some know the index, some do not yet.
        let indexed = if number == 0 { indexed.clone() } else { HashSet::new() };
        actors.push(publisher(&shared, &graph.host, batches, indexed));
    }
    for next in schedule {
        let count = actors.len();
        let before = shared.writes.load(Relaxed);
        match next {
            Next::Turn(actor) => actors[actor % count].turns.add_permits(1),
            Next::Time(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
            Next::Kill(actor) => actors[actor % count].restart(&shared),
        }
        settle().await;
        if shared.writes.load(Relaxed) > before {
            prop_assert_eq!(graph.gap(&store).await, None);
        }
    }
    // All of them come to an end when they may.
    for _ in 0..2_000 {
        if actors[collectors..].iter().all(|actor| actor.task.is_finished()) {
            break;
        }
        let before = shared.writes.load(Relaxed);
        for actor in &actors {
            actor.turns.add_permits(3);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        settle().await;
        if shared.writes.load(Relaxed) > before {
            prop_assert_eq!(graph.gap(&store).await, None);
        }
    }
    prop_assert!(actors[collectors..].iter().all(|actor| actor.task.is_finished()), "a publisher waits for ever");
    Ok(())
}

fn references() -> impl Strategy<Value = Vec<BTreeSet<u64>>> {
    vec(vec(any::<prop::sample::Index>(), 0..3), PATHS).prop_map(|paths| {
        let below = |(number, references): (usize, Vec<prop::sample::Index>)| {
            references.iter().filter(|_| number > 0).map(|index| index.index(number.max(1)) as u64).collect()
        };
        paths.into_iter().enumerate().map(below).collect()
    })
}

/// Runs as many random schedules.
fn run_schedules(cases: u32) {
    let schedules = (
        references(),
        (0..=PATHS, 0..=PATHS),
        1usize..3,
        vec(vec(prop::collection::btree_set(0..PATHS, 1..4), 1..3), 1..3),
        vec(next(), 0..250),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
    let result = runner.run(&schedules, |(references, stored, collectors, batches, schedule)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, run(references, stored, collectors, batches, schedule))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Runs ten thousand schedules, on all cores. Set HARMONIA_SCHEDULES to run more.
#[test]
fn no_schedule_of_requests_leaves_a_narinfo_without_its_nar_or_a_reference() {
    let number = std::env::var("HARMONIA_SCHEDULES").map_or(10_000, |number| number.parse().unwrap());
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| run_schedules(u32::div_ceil(number, cores)));
        }
    });
}
