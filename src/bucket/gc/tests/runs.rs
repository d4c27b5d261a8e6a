//! Garbage collections of a bucket in memory, with the clock of the test.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harmonia_protocol::{HashPart, StoreDir};
use object_store::memory::InMemory;

use crate::bucket::engine::{BucketStore, Patience, Replace};
use crate::bucket::gc::collector::{Ages, Collector, Report};
use crate::bucket::gc::error::GcError;
use crate::bucket::gc::hash_list;
use crate::bucket::gc::pin_file::PinFile;
use crate::bucket::gc::progress::Progress;
use crate::bucket::gc::saved_narinfos::{Undone, undo};
use crate::bucket::index::{Index, Indexed};
use crate::bucket::narinfo::tests::path;
use crate::bucket::object_name::{Day, GcObject, ObjectName, RunId};
use crate::bucket::publish::plan::tests::part;
use crate::bucket::publish::publisher::Publisher;
use crate::bucket::publish::tests::Host;

const DAY: u64 = 86_400;

fn store(memory: &Arc<InMemory>) -> Arc<BucketStore> {
    Arc::new(BucketStore::in_memory(memory, usize::MAX))
}

/// A collector that keeps everything for 90 days, so many days after it was put.
fn collector(store: &Arc<BucketStore>, days: u64) -> Collector {
    let ages = Ages { keep: Duration::from_secs(90 * DAY), unnamed: Duration::from_secs(30 * DAY), ahead: days * DAY };
    Collector { store: Arc::clone(store), directory: StoreDir::default(), host: "gc".parse().unwrap(), ages }
}

async fn collect(store: &Arc<BucketStore>, days: u64) -> Result<Report, GcError> {
    collector(store, days).run(&Progress::new(&|_| {})).await
}

/// A bucket with paths 0 to 3, of which 1 refers to 0, and 3 refers to 2.
async fn bucket() -> Arc<InMemory> {
    let (memory, mut host) = (Arc::new(InMemory::new()), Host::default());
    for (number, references) in [(0, &[][..]), (1, &[0]), (2, &[]), (3, &[2])] {
        host.add(number, vec![u8::try_from(number).unwrap(); 100], references);
    }
    publish(&memory, &host, &[0, 1, 2, 3]).await;
    memory
}

async fn publish(memory: &Arc<InMemory>, host: &Host, numbers: &[usize]) -> usize {
    let publisher = Publisher::new(store(memory), StoreDir::default(), "a".parse().unwrap(), 1, None);
    let batch: Vec<_> = numbers.iter().map(|number| host.batch[*number].clone()).collect();
    publisher.publish(&batch, &host.files, |_| false).await.unwrap().narinfos
}

async fn put(store: &BucketStore, name: &ObjectName, bytes: Vec<u8>) {
    store.put(name, bytes.into(), Replace::Always).await.unwrap();
}

async fn names(store: &BucketStore) -> Vec<ObjectName> {
    store.list("", None, 1_000).await.unwrap().into_iter().map(|(name, _)| name).collect()
}

async fn paths(store: &BucketStore) -> Vec<HashPart> {
    let names = names(store).await;
    names.into_iter().filter_map(|name| if let ObjectName::NarInfo(path) = name { Some(path) } else { None }).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_pinned_rooted_or_used_stays_with_its_closure() {
    let memory = bucket().await;
    let store = store(&memory);
    let young = collect(&store, 80).await.unwrap();
    assert_eq!((young.narinfos.len(), young.kept, young.run), (0, 4, Some(RunId(1))));
    let list = |number| hash_list::encode(&[part(number)].into()).unwrap();
    put(&store, &ObjectName::Roots("b".parse().unwrap()), list(1)).await;
    let used = ObjectName::Used(Day::of(SystemTime::now()), "b".parse().unwrap());
    put(&store, &used, list(3)).await;
    let kept = collect(&store, 89).await.unwrap();
    assert_eq!((kept.narinfos.len(), kept.kept), (0, 4));
    let rooted = collect(&store, 92).await.unwrap();
    assert_eq!((rooted.narinfos, rooted.kept), (vec![part(3), part(2)], 2), "used on the day of the put");
    let pin = PinFile { roots: vec![path(0).base_name().to_owned()], since: 1, until: None, by: "a".into() };
    put(&store, &ObjectName::Pin("p".into()), pin.render().unwrap()).await;
    store.delete(&ObjectName::Roots("b".parse().unwrap())).await.unwrap();
    assert_eq!(collect(&store, 93).await.unwrap().narinfos, [part(1)]);
    assert_eq!(paths(&store).await, [part(0)]);
}

#[tokio::test(start_paused = true)]
async fn nars_go_a_month_after_their_narinfos_and_the_index_with_these() {
    let memory = bucket().await;
    let store = store(&memory);
    let dry = collector(&store, 100).dry_run(&Progress::new(&|_| {})).await.unwrap();
    assert_eq!((dry.narinfos.len(), dry.nars, dry.unnamed, dry.run), (4, 0, 4, None));
    assert_eq!(paths(&store).await.len(), 4, "a dry run deletes nothing");
    let first = collect(&store, 100).await.unwrap();
    assert_eq!((first.narinfos.len(), first.nars, first.unnamed), (4, 0, 4));
    let index = Index::new(1);
    index.refresh(&store).await.unwrap();
    assert_eq!(index.look_up(&part(1)), Indexed::No);
    assert!(!names(&store).await.iter().any(|name| matches!(name, ObjectName::NarInfo(_) | ObjectName::Listing(_))));
    assert_eq!(collect(&store, 129).await.unwrap().nars, 0);
    assert_eq!(collect(&store, 131).await.unwrap().nars, 4);
    assert!(!names(&store).await.iter().any(|name| matches!(name, ObjectName::Nar(_))));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_dies_after_any_write_is_completed_by_the_next() {
    let mut writes = 0;
    loop {
        let memory = bucket().await;
        let dying = Arc::new(BucketStore::in_memory(&memory, writes));
        let is_done = collect(&dying, 100).await.is_ok();
        let store = store(&memory);
        collect(&store, 100).await.unwrap();
        assert_eq!(paths(&store).await, [], "after {writes} writes");
        if is_done {
            break;
        }
        writes += 1;
    }
    assert!(writes > 15, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn one_run_at_a_time() {
    let memory = bucket().await;
    let (first, second) = (store(&memory), store(&memory));
    let (first, second) = tokio::join!(collect(&first, 100), async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        collect(&second, 100).await
    });
    assert_eq!(first.unwrap().narinfos.len(), 4);
    let error = second.unwrap_err();
    assert!(matches!(error, GcError::Busy(RunId(1), _)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_to_be_garbage_is_not_deleted() {
    let memory = bucket().await;
    let store = store(&memory);
    put(&store, &ObjectName::Pin("p".into()), b"broken".to_vec()).await;
    let error = collect(&store, 100).await.unwrap_err().to_string();
    assert!(error.starts_with("nothing was deleted: harmonia/v1/pins/p.json: "), "{error}");
    assert_eq!(paths(&store).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_undone_from_what_it_has_kept() {
    let memory = bucket().await;
    let store = store(&memory);
    collect(&store, 100).await.unwrap();
    let (host, directory) = ("gc".parse().unwrap(), StoreDir::default());
    let undone = undo(&store, &directory, &host, RunId(1)).await.unwrap();
    assert_eq!(undone, Some(Undone { restored: 4, there: 0, lost: 0 }));
    assert_eq!(paths(&store).await.len(), 4);
    let index = Index::new(1);
    index.refresh(&store).await.unwrap();
    assert_eq!(index.look_up(&part(1)), Indexed::Maybe);
    assert_eq!(undo(&store, &directory, &host, RunId(7)).await.unwrap(), None);
    // It does not stand in the way of the next run.
    assert_eq!(collect(&store, 50).await.unwrap().run, Some(RunId(2)));
}

#[tokio::test(start_paused = true)]
async fn what_is_published_while_a_run_waits_is_spared_or_published_after_it() {
    let mut host = Host::default();
    host.add(0, vec![0; 100], &[]);
    host.add(1, vec![1; 100], &[0]);
    // The plan is there after three seconds. Before, what is published is garbage by the clock of the test.
    for seconds in (4..170).step_by(7) {
        let memory = Arc::new(InMemory::new());
        publish(&memory, &host, &[0]).await;
        let collecting = store(&memory);
        let (report, narinfos) = tokio::join!(collect(&collecting, 100), async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            publish(&memory, &host, &[0, 1]).await
        });
        assert!(report.is_ok() && narinfos >= 1, "after {seconds} s: {report:?}");
        let there = paths(&collecting).await;
        assert_eq!(there.len(), 2, "after {seconds} s");
        let nars = names(&collecting).await.into_iter().filter(|name| matches!(name, ObjectName::Nar(_))).count();
        assert_eq!(nars, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_was_left_for_long_is_not_gone_on_with() {
    let memory = bucket().await;
    // It dies when its plan is there: lease, narinfos, plan.
    let dying = Arc::new(BucketStore::in_memory(&memory, 3));
    assert!(collect(&dying, 100).await.is_err());
    let store = store(&memory);
    let plan = ObjectName::Gc(RunId(1), GcObject::Plan);
    assert!(store.head(&plan, Patience::Client).await.unwrap().is_some());
    store.delete(&ObjectName::Gc(RunId(1), GcObject::Lease)).await.unwrap();
    let report = collect(&store, 100).await.unwrap();
    assert_eq!((report.run, report.narinfos.len()), (Some(RunId(2)), 4));
}
