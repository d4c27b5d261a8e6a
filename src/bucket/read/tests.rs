use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::StoreDir;
use harmonia_protocol::signature::{KeyName, PublicKey, SecretKey};
use object_store::memory::InMemory;

use super::Unreachable;
use crate::bucket::engine::{BucketStore, Replace};
use crate::bucket::narinfo::BucketNarInfo;
use crate::bucket::narinfo::tests::{info, path};
use crate::bucket::object_name::{ObjectName, SegmentId};
use crate::bucket::segment::Segment;
use crate::bucket::state::Bucket;
use crate::config;
use crate::fairness::ClientId;
use crate::metrics::BucketLookup;
use crate::nar_cache::FileInfo;

/// A bucket as one host sees it, and what another host writes into it.
struct Fleet {
    host: Arc<Bucket>,
    other: BucketStore,
    key: SecretKey,
}

impl Fleet {
    fn new(unreachable: config::Unreachable) -> Self {
        let memory = Arc::new(InMemory::new());
        let key = key();
        let own: [PublicKey; 1] = [key.public_key().clone()];
        let host = Bucket::in_memory(&memory, unreachable);
        host.set_own_keys(own.iter());
        Self { host, other: BucketStore::in_memory(&memory, usize::MAX), key }
    }

    /// Puts a narinfo of another host.
    async fn put(&self, key: &SecretKey, number: u64, references: &[u64]) {
        let (store, info) = (StoreDir::default(), info(references));
        let signature = key.sign(info.fingerprint(&path(number), &store).as_bytes());
        let file = FileInfo { sha256: [9; 32], size: 100 };
        let narinfo = BucketNarInfo::new(&path(number), &info, &store, file, vec![signature]).unwrap();
        let bytes = Bytes::from(narinfo.render(&store));
        self.other.put(&name(number), bytes, Replace::Always).await.unwrap();
    }

    /// Puts a segment of the index of another host, and reads it.
    async fn index(&self, sequence: u32, published: &[u64]) {
        let mut segment = Segment::default();
        assert!(published.iter().all(|number| segment.publish(path(*number).hash_part())));
        let name = ObjectName::Segment("other".parse().unwrap(), SegmentId { epoch: 1, sequence });
        self.other.put(&name, segment.encode().unwrap().into(), Replace::Always).await.unwrap();
        self.host.index.refresh(&self.host.store).await.unwrap();
    }

    async fn look_up(&self, number: u64) -> Result<bool, Unreachable> {
        let found = self.host.narinfo(path(number).hash_part(), ClientId::Server).await?;
        assert!(found.iter().all(|narinfo| *narinfo.path() == path(number)));
        Ok(found.is_some())
    }

    fn lookups(&self, result: BucketLookup) -> u64 {
        self.host.metrics.bucket_lookups.get(result)
    }

    fn gets(&self) -> u64 {
        self.host.store.metrics().bucket.requests("get", "ok")
            + self.host.store.metrics().bucket.requests("get", "not_found")
    }

    /// Lets no request of the host succeed any more.
    fn break_off(&self) {
        self.host.store.die();
    }
}

fn key() -> SecretKey {
    SecretKey::generate(KeyName::new("fleet-1").unwrap()).unwrap().0
}

fn name(number: u64) -> ObjectName {
    ObjectName::NarInfo(path(number).hash_part())
}

#[tokio::test]
async fn a_path_of_another_host_is_found_once_and_then_remembered() {
    let fleet = Fleet::new(config::Unreachable::Retry);
    fleet.put(&fleet.key, 1, &[]).await;
    fleet.index(0, &[1]).await;
    let before = fleet.gets();
    for _ in 0..3 {
        assert_eq!(fleet.look_up(1).await.ok(), Some(true));
    }
    assert_eq!(fleet.gets(), before + 1);
    assert_eq!((fleet.lookups(BucketLookup::Found), fleet.lookups(BucketLookup::Memory)), (1, 2));
}

#[tokio::test]
async fn a_miss_costs_no_request_while_the_index_is_fresh() {
    let fleet = Fleet::new(config::Unreachable::Retry);
    fleet.index(0, &[1]).await;
    let before = fleet.gets();
    for number in 100..1_100 {
        assert_eq!(fleet.look_up(number).await.ok(), Some(false));
    }
    assert_eq!((fleet.gets(), fleet.lookups(BucketLookup::NotIndexed)), (before, 1_000));
}

#[tokio::test]
async fn a_stale_index_denies_nothing_and_what_is_not_there_is_asked_for_once() {
    let fleet = Fleet::new(config::Unreachable::Retry);
    fleet.put(&fleet.key, 1, &[]).await;
    assert_eq!((fleet.look_up(1).await.ok(), fleet.look_up(2).await.ok()), (Some(true), Some(false)));
    let before = fleet.gets();
    assert_eq!(fleet.look_up(2).await.ok(), Some(false));
    assert_eq!((fleet.gets(), fleet.lookups(BucketLookup::Absent)), (before, 2));
}

#[tokio::test]
async fn requests_at_the_same_time_are_one() {
    let fleet = Fleet::new(config::Unreachable::Retry);
    fleet.put(&fleet.key, 1, &[]).await;
    let found = futures_util::future::join_all((0..20).map(|_| fleet.look_up(1))).await;
    assert!(found.into_iter().all(|found| found.is_ok_and(|found| found)));
    assert_eq!(fleet.gets(), 1);
}

#[tokio::test]
async fn what_no_trusted_key_signed_is_not_there() {
    let fleet = Fleet::new(config::Unreachable::Retry);
    fleet.put(&key(), 1, &[]).await;
    fleet.other.put(&name(2), Bytes::from_static(b"StorePath: x\n"), Replace::Always).await.unwrap();
    fleet.put(&fleet.key, 4, &[]).await;
    let moved = fleet.other.get(&name(4), 1 << 20, crate::bucket::engine::Patience::Client).await.unwrap().unwrap();
    fleet.other.put(&name(3), moved, Replace::Always).await.unwrap();
    for number in 1..4 {
        assert_eq!(fleet.look_up(number).await.ok(), Some(false), "{number}");
    }
    assert_eq!(fleet.lookups(BucketLookup::Rejected), 3);
    assert_eq!(fleet.look_up(4).await.ok(), Some(true));
}

#[tokio::test]
async fn a_client_that_was_told_of_a_path_is_not_told_that_there_is_none() {
    let fleet = Fleet::new(config::Unreachable::Miss);
    fleet.put(&fleet.key, 1, &[2, 3]).await;
    fleet.put(&fleet.key, 2, &[]).await;
    fleet.index(0, &[1]).await;
    assert_eq!(fleet.look_up(2).await.ok(), Some(false), "the index has it not");
    assert_eq!(fleet.look_up(1).await.ok(), Some(true));
    assert_eq!(fleet.look_up(2).await.ok(), Some(true), "the index lags");
    assert!(matches!(fleet.look_up(3).await, Err(Unreachable::Lagging)), "the bucket lags");
    fleet.other.delete(&name(1)).await.unwrap();
    fleet.host.narinfos.age();
    assert_eq!(fleet.look_up(1).await.ok(), Some(true), "deleted since");
    assert_eq!(fleet.lookups(BucketLookup::Stale), 1);
    assert!(!fleet.host.narinfos.is_told_again(&path(1).hash_part()), "it would be served for ever");
}

#[tokio::test]
async fn what_was_removed_is_gone_when_no_client_can_ask_for_it_any_more() {
    let fleet = Fleet::new(config::Unreachable::Retry);
    fleet.put(&fleet.key, 1, &[]).await;
    assert_eq!(fleet.look_up(1).await.ok(), Some(true));
    fleet.other.delete(&name(1)).await.unwrap();
    fleet.host.narinfos.age();
    assert_eq!(fleet.look_up(1).await.ok(), Some(true));
    fleet.host.narinfos.forget_told();
    fleet.host.narinfos.age();
    assert_eq!(fleet.look_up(1).await.ok(), Some(false));
}

#[tokio::test]
async fn while_the_bucket_is_away_the_answer_is_what_the_operator_wants() {
    for (unreachable, unknown) in [(config::Unreachable::Retry, None), (config::Unreachable::Miss, Some(false))] {
        let fleet = Fleet::new(unreachable);
        fleet.put(&fleet.key, 1, &[2]).await;
        assert_eq!(fleet.look_up(1).await.ok(), Some(true));
        fleet.break_off();
        assert_eq!(fleet.look_up(1).await.ok(), Some(true), "in memory");
        fleet.host.narinfos.age();
        assert_eq!(fleet.look_up(1).await.ok(), Some(true), "in memory for long");
        assert_eq!(fleet.look_up(9).await.ok(), unknown);
        assert_eq!(fleet.look_up(2).await.ok(), None, "a client was told of it");
    }
}
