//! Ages and pauses, by a clock that is not waited for.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::advance;

use super::*;
use crate::store::state::Store;
use crate::store::tests::{GREETING, HASH, LAST, bytes, store, store_after};

const NAME: &str = "path";
/// The default of the configuration.
const TTL: Duration = Duration::from_secs(60);
const ERROR: u64 = 0x6378_7470;
const LAST_NUMBER: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

/// What the daemon does with questions about infos.
#[derive(Clone, Copy)]
enum Mood {
    Says,
    Denies,
    Errs,
    IsSilent,
}

/// What the test and its daemon share.
struct Stage {
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    /// Opcode and hash part of each operation, in order.
    operations: Mutex<Vec<(u64, String)>>,
    /// What the daemon does before it says anything of a path.
    before: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Stage {
    fn is_now(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    /// Questions about infos so far.
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
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
            self.asked.fetch_add(usize::from(is_about_info), Ordering::Relaxed);
            let mood = *self.mood.lock();
            let reply = match mood {
                Mood::IsSilent => std::future::pending().await,
                Mood::Errs => [&bytes(&[ERROR])[..], &string("of this path"), &bytes(&[1])].concat(),
                Mood::Denies => bytes(&[LAST, 0]),
                Mood::Says if is_about_info => {
                    self.before.lock().iter_mut().for_each(|act| act());
                    info(&about)
                }
                Mood::Says => [&bytes(&[LAST])[..], &string(&format!("/nix/store/{about}-{NAME}"))].concat(),
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

/// A path whose hash part is this number.
fn numbered(number: usize) -> String {
    format!("{number:032}")
}

/// A valid path with a NAR of 120 bytes. One with a number refers to the next, up to the last.
fn info(path: &str) -> Vec<u8> {
    let next = (0..LAST_NUMBER).find(|number| path.contains(&numbered(*number))).map(|number| numbered(number + 1));
    let reference = next.map(|next| string(&format!("/nix/store/{next}-{NAME}")));
    let references = [bytes(&[u64::from(reference.is_some())]), reference.unwrap_or_default()].concat();
    let hash = string(&"0".repeat(64));
    [bytes(&[LAST, 1]), string(""), hash, references, bytes(&[0, 120, 0, 0]), string("")].concat()
}

fn staged() -> (tempfile::TempDir, Store, Arc<Stage>) {
    let (mood, asked, before) = (Mutex::new(Mood::Says), AtomicUsize::new(0), Mutex::default());
    let stage = Arc::new(Stage { mood, asked, operations: Mutex::default(), before });
    let staged = Arc::clone(&stage);
    let (directory, store) = store(move |_, stream| Arc::clone(&staged).converse(stream));
    (directory, store, stage)
}

/// The same, with the path in sight.
fn staged_in_sight() -> (tempfile::TempDir, Store, Arc<Stage>) {
    let (directory, store, stage) = staged();
    std::fs::write(directory.path().join(format!("{HASH}-{NAME}")), "").unwrap();
    (directory, store, stage)
}

async fn ask(store: &Store) -> Answer {
    store.valid_path(HASH.parse().unwrap(), ClientId::Server).await
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_for_its_time_and_the_same_again_is_the_same_value() {
    for (_directory, store, stage) in [staged(), staged_in_sight()] {
        let first = ask(&store).await.unwrap().unwrap();
        advance(TTL.checked_sub(SECOND).unwrap()).await;
        let second = ask(&store).await.unwrap().unwrap();
        assert_eq!(stage.asked(), 1);
        advance(SECOND).await;
        let third = ask(&store).await.unwrap().unwrap();
        assert_eq!(stage.asked(), 2);
        assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &third));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_daemon_is_waited_for_by_one_and_then_left_alone_for_a_while() {
    let (_directory, store, stage) = staged_in_sight();
    let first = ask(&store).await.unwrap().unwrap();
    advance(TTL).await;
    stage.is_now(Mood::IsSilent);
    let begin = Instant::now();
    let old = ask(&store).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &old));
    assert!(begin.elapsed() >= STALE_AFTER && begin.elapsed() < STALE_AFTER + SECOND);
    let asked = stage.asked();
    for _ in 0..100 {
        assert!(ask(&store).await.unwrap().is_some());
    }
    assert_eq!((stage.asked(), asked), (2, 2));

    // And then what it says counts.
    stage.is_now(Mood::Denies);
    advance(BACKOFF).await;
    assert!(ask(&store).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_error_about_one_path_is_no_reason_to_ask_about_none() {
    let (_directory, store, stage) = staged_in_sight();
    assert!(ask(&store).await.unwrap().is_some());
    advance(TTL).await;
    stage.is_now(Mood::Errs);
    for times in 1..4 {
        assert!(ask(&store).await.unwrap().is_some());
        assert_eq!(stage.asked(), 1 + times);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_out_of_sight_is_not_used_beyond_its_time() {
    let (_directory, store, stage) = staged();
    assert!(ask(&store).await.unwrap().is_some());
    advance(TTL).await;
    stage.is_now(Mood::IsSilent);
    assert!(matches!(ask(&store).await, Err(StoreError::Timeout(_))));
}

#[tokio::test]
async fn a_path_that_comes_while_it_is_asked_about_is_asked_about_again() {
    let (directory, store, stage) = staged();
    let place = directory.path().join(format!("{HASH}-{NAME}"));
    let comes = place.clone();
    *stage.before.lock() = Some(Box::new(move || std::fs::write(&comes, "").unwrap()));
    assert!(ask(&store).await.unwrap().is_some());
    std::fs::remove_file(&place).unwrap();
    // Kept, it would look as it did before: not there.
    stage.is_now(Mood::Denies);
    assert!(ask(&store).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_doubtful_answer_is_not_used() {
    let (_directory, store, stage) = staged_in_sight();
    assert!(ask(&store).await.unwrap().is_some());
    let hash = HASH.parse().unwrap();
    stage.is_now(Mood::Denies);
    store.path_infos.mark_stale(hash, &StoreError::Timeout(crate::store::daemon::deadline::Deadline::NarBytes));
    assert!(ask(&store).await.unwrap().is_some());
    store.path_infos.mark_stale(hash, &StoreError::Abandoned(hash));
    assert!(ask(&store).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_closure_is_asked_about_when_it_is_new_and_one_level_of_it_when_it_has_aged() {
    let (_directory, store, stage) = staged();
    let serve = async || {
        let valid = store.valid_path(numbered(0).parse().unwrap(), ClientId::Server).await.unwrap().unwrap();
        store.record_served(&valid);
        // Whatever is asked ahead is over when the clock moves on.
        tokio::time::sleep(SECOND).await;
    };
    serve().await;
    assert_eq!(stage.asked(), LAST_NUMBER + 1);
    serve().await;
    assert_eq!(stage.asked(), LAST_NUMBER + 1);
    advance(TTL).await;
    serve().await;
    assert_eq!(stage.asked(), LAST_NUMBER + 1 + 2);
}

/// A second wait for a connection, between the two operations of a narinfo, would let others in between.
#[tokio::test]
async fn a_cold_narinfo_takes_one_connection_for_both_of_its_operations() {
    let stage = Arc::new(Stage {
        mood: Mutex::new(Mood::Says),
        asked: AtomicUsize::new(0),
        operations: Mutex::default(),
        before: Mutex::default(),
    });
    let connections = Arc::new(AtomicUsize::new(0));
    let (staged, opened) = (Arc::clone(&stage), Arc::clone(&connections));
    let one = |config: &mut crate::config::Config| config.max_metadata_connections = 1;
    let (_directory, store) = store_after(GREETING, one, move |_, stream| {
        opened.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&staged).converse(stream)
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
    let operations = stage.operations.lock().clone();
    for pair in operations.chunks(2) {
        assert!(matches!(pair, [(29, hash), (26, same)] if hash == same), "{operations:?}");
    }
    assert_eq!((operations.len(), connections.load(Ordering::Relaxed)), (8, 1));
}

/// A client that floods is not to delay another one by having been the first to ask for the same.
#[tokio::test]
async fn a_question_has_the_turn_of_whoever_waits_for_it() {
    const FLOOD: usize = 20;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (gate, order) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::clone(&asked));
    let opening = Arc::clone(&gate);
    let one = |config: &mut crate::config::Config| config.max_metadata_connections = 1;
    let (_directory, store) = store_after(GREETING, one, move |_, mut stream: UnixStream| {
        let (gate, order) = (Arc::clone(&opening), Arc::clone(&order));
        async move {
            let mut question = [0; 8 + 8 + 32];
            while stream.read_exact(&mut question).await.is_ok() {
                order.lock().push(String::from_utf8(question[16..].to_vec()).unwrap());
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
        panic!("{} wait for their turn, and not {count}", store.pool.waiting_for_metadata());
    };
    waiting(FLOOD - 1).await;
    all.push(ask(FLOOD - 1, 2));
    waiting(FLOOD).await;
    gate.add_permits(FLOOD);
    for asking in all {
        assert!(asking.await.unwrap().unwrap().is_none());
    }
    let place = asked.lock().iter().position(|hash| *hash == numbered(FLOOD - 1)).unwrap();
    assert!(place <= 2, "it was asked as number {place}");
    assert_eq!(asked.lock().len(), FLOOD);
}
