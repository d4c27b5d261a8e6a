//! Ages and backoff in paused time, shared queries, and prefetching.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::advance;

use super::*;
use crate::store::state::Store;
use crate::store::tests::{GREETING, HASH, LAST, bytes, store, store_after};

const NAME: &str = "path";
/// Default of the configuration.
const TTL: Duration = Duration::from_secs(60);
const ERROR: u64 = 0x6378_7470;
const LAST_NUMBER: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

/// Reply of the scripted nix-daemon to every query.
#[derive(Clone, Copy)]
enum Reply {
    Valid,
    Invalid,
    Error,
    Silent,
}

/// State shared by a test and its scripted nix-daemon.
struct Script {
    reply_with: Mutex<Reply>,
    path_info_queries: AtomicUsize,
    /// Opcode and hash part of each operation, in order.
    operations: Mutex<Vec<(u64, String)>>,
    /// Called before the reply to a path info query.
    before: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Script {
    fn set_reply(&self, reply_with: Reply) {
        *self.reply_with.lock() = reply_with;
    }

    /// Returns the number of path info queries so far.
    fn queries(&self) -> usize {
        self.path_info_queries.load(Ordering::Relaxed)
    }

    async fn converse(self: Arc<Self>, mut stream: UnixStream) {
        while let Ok(opcode) = stream.read_u64_le().await {
            let length = usize::try_from(stream.read_u64_le().await.unwrap()).unwrap();
            let mut about = vec![0; length.next_multiple_of(8)];
            stream.read_exact(&mut about).await.unwrap();
            let about = String::from_utf8(about[..length].to_vec()).unwrap();
            let is_about_info = opcode == 26;
            let hash = about.trim_start_matches("/nix/store/")[..32].to_owned();
            self.operations.lock().push((opcode, hash));
            self.path_info_queries.fetch_add(usize::from(is_about_info), Ordering::Relaxed);
            let reply_with = *self.reply_with.lock();
            let reply = match reply_with {
                Reply::Silent => std::future::pending().await,
                Reply::Error => [&bytes(&[ERROR])[..], &string("of this path"), &bytes(&[1])].concat(),
                Reply::Invalid => bytes(&[LAST, 0]),
                Reply::Valid if is_about_info => {
                    self.before.lock().iter_mut().for_each(|act| act());
                    info(&about)
                }
                Reply::Valid => [&bytes(&[LAST])[..], &string(&format!("/nix/store/{about}-{NAME}"))].concat(),
            };
            stream.write_all(&reply).await.unwrap();
        }
    }
}

fn string(text: &str) -> Vec<u8> {
    let mut string = [&bytes(&[text.len() as u64])[..], text.as_bytes()].concat();
    string.resize(8 + text.len().next_multiple_of(8), 0);
    string
}

/// Returns a hash part with this number.
fn numbered(number: usize) -> String {
    format!("{number:032}")
}

/// Returns the path info of a valid path with a NAR of 120 bytes. A numbered path refers to the next, up to the last.
fn info(path: &str) -> Vec<u8> {
    let next = (0..LAST_NUMBER).find(|number| path.contains(&numbered(*number))).map(|number| numbered(number + 1));
    let reference = next.map(|next| string(&format!("/nix/store/{next}-{NAME}")));
    let references = [bytes(&[u64::from(reference.is_some())]), reference.unwrap_or_default()].concat();
    let hash = string(&"0".repeat(64));
    [bytes(&[LAST, 1]), string(""), hash, references, bytes(&[0, 120, 0, 0]), string("")].concat()
}

fn scripted() -> (tempfile::TempDir, Store, Arc<Script>) {
    let (reply_with, path_info_queries, before) = (Mutex::new(Reply::Valid), AtomicUsize::new(0), Mutex::default());
    let script = Arc::new(Script { reply_with, path_info_queries, operations: Mutex::default(), before });
    let shared = Arc::clone(&script);
    let (directory, store) = store(move |_, stream| Arc::clone(&shared).converse(stream));
    (directory, store, script)
}

/// Returns a scripted store whose path is visible.
fn scripted_visible() -> (tempfile::TempDir, Store, Arc<Script>) {
    let (directory, store, script) = scripted();
    std::fs::write(directory.path().join(format!("{HASH}-{NAME}")), "").unwrap();
    (directory, store, script)
}

async fn look_up(store: &Store) -> LookupResult {
    store.valid_path(HASH.parse().unwrap(), ClientId::Server).await
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_used_up_to_its_ttl_and_keeps_its_value_if_unchanged() {
    for (_directory, store, script) in [scripted(), scripted_visible()] {
        let first = look_up(&store).await.unwrap().unwrap();
        advance(TTL.checked_sub(SECOND).unwrap()).await;
        let second = look_up(&store).await.unwrap().unwrap();
        assert_eq!(script.queries(), 1);
        advance(SECOND).await;
        let third = look_up(&store).await.unwrap().unwrap();
        assert_eq!(script.queries(), 2);
        assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &third));
    }
}

#[tokio::test(start_paused = true)]
async fn stale_entries_are_served_without_queries_after_a_timeout() {
    let (_directory, store, script) = scripted_visible();
    let first = look_up(&store).await.unwrap().unwrap();
    advance(TTL).await;
    script.set_reply(Reply::Silent);
    let begin = Instant::now();
    let old = look_up(&store).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &old));
    assert!(begin.elapsed() >= STALE_AFTER && begin.elapsed() < STALE_AFTER + SECOND);
    let asked = script.queries();
    for _ in 0..100 {
        assert!(look_up(&store).await.unwrap().is_some());
    }
    assert_eq!((script.queries(), asked), (2, 2));

    // After the backoff, replies count again.
    script.set_reply(Reply::Invalid);
    advance(BACKOFF).await;
    assert!(look_up(&store).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_error_about_one_path_causes_no_backoff() {
    let (_directory, store, script) = scripted_visible();
    assert!(look_up(&store).await.unwrap().is_some());
    advance(TTL).await;
    script.set_reply(Reply::Error);
    for times in 1..4 {
        assert!(look_up(&store).await.unwrap().is_some());
        assert_eq!(script.queries(), 1 + times);
    }
}

#[tokio::test(start_paused = true)]
async fn stale_entries_of_paths_that_are_not_visible_are_not_served() {
    let (_directory, store, script) = scripted();
    assert!(look_up(&store).await.unwrap().is_some());
    advance(TTL).await;
    script.set_reply(Reply::Silent);
    assert!(matches!(look_up(&store).await, Err(StoreError::Timeout(_))));
}

#[tokio::test]
async fn a_path_that_appears_during_its_query_is_not_cached() {
    let (directory, store, script) = scripted();
    let file = directory.path().join(format!("{HASH}-{NAME}"));
    let created = file.clone();
    *script.before.lock() = Some(Box::new(move || std::fs::write(&created, "").unwrap()));
    assert!(look_up(&store).await.unwrap().is_some());
    std::fs::remove_file(&file).unwrap();
    // A cached entry would have the same stamp: none.
    script.set_reply(Reply::Invalid);
    assert!(look_up(&store).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_entry_marked_stale_is_queried_again() {
    let (_directory, store, script) = scripted_visible();
    assert!(look_up(&store).await.unwrap().is_some());
    let hash = HASH.parse().unwrap();
    script.set_reply(Reply::Invalid);
    store.path_infos.mark_stale(hash, &StoreError::Timeout(crate::store::daemon::deadline::Deadline::NarBytes));
    assert!(look_up(&store).await.unwrap().is_some());
    store.path_infos.mark_stale(hash, &StoreError::Abandoned(hash));
    assert!(look_up(&store).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn prefetching_covers_a_new_closure_and_one_level_of_a_stale_one() {
    let (_directory, store, script) = scripted();
    let serve = async || {
        let valid = store.valid_path(numbered(0).parse().unwrap(), ClientId::Server).await.unwrap().unwrap();
        store.record_served(&valid);
        // Paused time advances only when prefetching is done.
        tokio::time::sleep(SECOND).await;
    };
    serve().await;
    assert_eq!(script.queries(), LAST_NUMBER + 1);
    serve().await;
    assert_eq!(script.queries(), LAST_NUMBER + 1);
    advance(TTL).await;
    serve().await;
    assert_eq!(script.queries(), LAST_NUMBER + 1 + 2);
}

/// Waiting for a connection twice would let other queries in between.
#[tokio::test]
async fn both_operations_of_a_lookup_use_one_connection() {
    let script = Arc::new(Script {
        reply_with: Mutex::new(Reply::Valid),
        path_info_queries: AtomicUsize::new(0),
        operations: Mutex::default(),
        before: Mutex::default(),
    });
    let connections = Arc::new(AtomicUsize::new(0));
    let (shared, opened) = (Arc::clone(&script), Arc::clone(&connections));
    let one = |config: &mut crate::config::Config| config.max_metadata_connections = 1;
    let (_directory, store) = store_after(GREETING, one, move |_, stream| {
        opened.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&shared).converse(stream)
    });
    let store = Arc::new(store);
    let all: Vec<_> = (0..4)
        .map(|number| {
            let store = Arc::clone(&store);
            let hash = numbered(number + LAST_NUMBER).parse().unwrap();
            tokio::spawn(async move { store.valid_path(hash, ClientId::Server).await })
        })
        .collect();
    for one in all {
        assert!(one.await.unwrap().unwrap().is_some());
    }
    let operations = script.operations.lock().clone();
    for pair in operations.chunks(2) {
        assert!(matches!(pair, [(29, hash), (26, same)] if hash == same), "{operations:?}");
    }
    assert_eq!((operations.len(), connections.load(Ordering::Relaxed)), (8, 1));
}

/// A flooding client must not delay others that wait for the same query.
#[tokio::test]
async fn a_query_waits_in_the_queue_of_each_client_that_needs_it() {
    const FLOOD: usize = 20;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (gate, order) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::clone(&asked));
    let opening = Arc::clone(&gate);
    let one = |config: &mut crate::config::Config| config.max_metadata_connections = 1;
    let (_directory, store) = store_after(GREETING, one, move |_, mut stream: UnixStream| {
        let (gate, order) = (Arc::clone(&opening), Arc::clone(&order));
        async move {
            let mut query = [0; 8 + 8 + 32];
            while stream.read_exact(&mut query).await.is_ok() {
                order.lock().push(String::from_utf8(query[16..].to_vec()).unwrap());
                gate.acquire().await.unwrap().forget();
                stream.write_all(&bytes(&[LAST, 0])).await.unwrap();
            }
        }
    });
    let store = Arc::new(store);
    let ask = |number: usize, last: u8| {
        let (store, client) = (Arc::clone(&store), ClientId::from_addr([192, 0, 2, last].into()));
        tokio::spawn(async move { store.valid_path(numbered(number).parse().unwrap(), client).await })
    };
    let mut all: Vec<_> = (0..FLOOD).map(|number| ask(number, 1)).collect();
    let waiting = async |count| {
        for _ in 0..100_000 {
            tokio::task::yield_now().await;
            if store.pool.waiting_for_metadata() == count {
                return;
            }
        }
        panic!("{} queries wait instead of {count}", store.pool.waiting_for_metadata());
    };
    waiting(FLOOD - 1).await;
    all.push(ask(FLOOD - 1, 2));
    waiting(FLOOD).await;
    gate.add_permits(FLOOD);
    for asking in all {
        assert!(asking.await.unwrap().unwrap().is_none());
    }
    let position = asked.lock().iter().position(|hash| *hash == numbered(FLOOD - 1)).unwrap();
    assert!(position <= 2, "it was query number {position}");
    assert_eq!(asked.lock().len(), FLOOD);
}
