//! Paths that this host serves, by day, so that a garbage collection of the bucket knows what is used: object stores do not tell.

use std::collections::{BTreeSet, HashSet};
use std::time::SystemTime;

use harmonia_protocol::HashPart;

use super::engine::{BucketError, BucketStore, Operation, Patience, Replace};
use super::gc::hash_list::{self, MAX_HASH_LIST, MAX_HASHES};
use super::object_name::{Day, ObjectName};
use crate::config::HostName;
use crate::sync::Mutex;

/// Paths that were served. Those of a day that do not fit into an object are left out.
#[derive(Debug, Default)]
pub(in crate::bucket) struct Used(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Paths that are not in the object of the day yet.
    new: BTreeSet<HashPart>,
    /// Paths that are.
    written: HashSet<HashPart>,
    day: Option<Day>,
}

impl Used {
    /// Records that a path was served. Takes less than a microsecond.
    pub(in crate::bucket) fn record(&self, path: &HashPart) {
        let mut state = self.0.lock();
        if state.written.len() + state.new.len() < MAX_HASHES && !state.written.contains(path) {
            state.new.insert(*path);
        }
    }

    /// Writes what was served since the last time. After an error it is written the next time.
    pub(in crate::bucket) async fn write(
        &self,
        store: &BucketStore,
        host: &HostName,
        now: SystemTime,
    ) -> Result<(), BucketError> {
        let day = Day::of(now);
        let new = {
            let mut state = self.0.lock();
            if state.day != Some(day) {
                state.written.clear();
                state.day = Some(day);
            }
            std::mem::take(&mut state.new)
        };
        if new.is_empty() {
            return Ok(());
        }
        let written = write(store, &ObjectName::Used(day, host.clone()), &new).await;
        let mut state = self.0.lock();
        match written {
            Ok(()) => state.written.extend(new),
            Err(_) => state.new.extend(new),
        }
        written
    }
}

/// Adds paths to the object of a day, which a host that was restarted goes on with.
async fn write(store: &BucketStore, name: &ObjectName, new: &BTreeSet<HashPart>) -> Result<(), BucketError> {
    let before = store.get(name, MAX_HASH_LIST, Patience::Background).await?;
    let mut all = before.and_then(|bytes| hash_list::decode(&bytes)).unwrap_or_default();
    all.extend(new);
    let bytes = hash_list::encode(&all).map_err(|cause| BucketError::other(Operation::Put, name.to_string(), cause))?;
    store.put(name, bytes.into(), Replace::Always).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::publish::plan::tests::part;

    #[tokio::test]
    async fn what_is_served_is_written_under_its_day_once() {
        let memory = Arc::new(InMemory::new());
        let (store, host) = (BucketStore::in_memory(&memory, 3), "a".parse().unwrap());
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_737_600);
        // Not dead.
        let other = BucketStore::in_memory(&memory, usize::MAX);
        let read = async |day| {
            let bytes = other.get(&ObjectName::Used(Day::of(day), "a".parse().unwrap()), 1_000, Patience::Client).await;
            hash_list::decode(&bytes.unwrap().unwrap()).unwrap().into_iter().collect::<Vec<_>>()
        };
        let used = Used::default();
        used.write(&store, &host, day).await.unwrap();
        used.record(&part(1));
        used.write(&store, &host, day).await.unwrap();
        used.record(&part(1));
        used.write(&store, &host, day).await.unwrap();
        // After a restart.
        let used = Used::default();
        used.record(&part(2));
        used.write(&store, &host, day).await.unwrap();
        assert_eq!(read(day).await, [part(1), part(2)]);
        let tomorrow = day + Duration::from_secs(86_400);
        used.record(&part(2));
        used.write(&store, &host, tomorrow).await.unwrap();
        used.record(&part(2));
        used.write(&store, &host, tomorrow).await.unwrap();
        assert_eq!(read(tomorrow).await, [part(2)]);
        used.record(&part(3));
        assert!(used.write(&store, &host, tomorrow).await.is_err(), "the store is dead after three puts");
        assert_eq!(used.0.lock().new, [part(3)].into());
    }
}
