//! Generations of roots and their failures, with a scripted nix-daemon in paused time.

use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use harmonia_protocol::StorePath;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::*;
use crate::store::state::Store;
use crate::store::tests::{GREETING, LAST, bytes, store_after, valid};

const LENGTH: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);
const ERROR: u64 = 0x6378_7470;

/// State shared by a test and its scripted nix-daemon.
#[derive(Default)]
struct Script {
    /// Roots of each open connection.
    roots: Mutex<BTreeMap<usize, Vec<String>>>,
    most_connections: Mutex<usize>,
    is_silent: AtomicBool,
    refuses: AtomicBool,
    /// Whether it does not reply to queries for valid paths.
    omits_valid_paths: AtomicBool,
    /// Path that is not valid.
    invalid: Mutex<String>,
    /// Ends all connections when notified.
    restart: tokio::sync::Notify,
}

impl Script {
    fn connections(&self) -> usize {
        self.roots.lock().len()
    }

    fn has_root(&self, path: &Arc<ValidPath>) -> bool {
        let is_it = |root: &String| root.ends_with(path.path.base_name());
        self.roots.lock().values().flatten().any(is_it)
    }

    fn count(&self) -> usize {
        self.roots.lock().values().map(Vec::len).sum()
    }

    async fn converse(self: Arc<Self>, number: usize, mut stream: UnixStream) {
        self.roots.lock().insert(number, Vec::new());
        {
            let mut most = self.most_connections.lock();
            *most = self.connections().max(*most);
        }
        tokio::select! {
            _ = self.reply(number, &mut stream) => {}
            () = self.restart.notified() => {}
        }
        self.roots.lock().remove(&number);
    }

    async fn reply(&self, number: usize, stream: &mut UnixStream) -> std::io::Result<()> {
        loop {
            let reply = match stream.read_u64_le().await? {
                11 => {
                    let path = read_string(stream).await?;
                    // Queries received by then wait too, as during a garbage collection of Nix 2.3.
                    while self.is_silent.load(Ordering::Relaxed) {
                        sleep(SECOND).await;
                    }
                    if self.refuses.load(Ordering::Relaxed) {
                        [&bytes(&[ERROR])[..], &string("refused"), &bytes(&[1])].concat()
                    } else {
                        self.roots.lock().get_mut(&number).unwrap().push(path);
                        bytes(&[LAST, 1])
                    }
                }
                31 => {
                    if self.omits_valid_paths.load(Ordering::Relaxed) {
                        // Until the connection ends.
                        stream.read_to_end(&mut Vec::new()).await?;
                        return Ok(());
                    }
                    let mut valid = Vec::new();
                    for _ in 0..stream.read_u64_le().await? {
                        let path = read_string(stream).await?;
                        if *self.invalid.lock() != path {
                            valid.push(string(&path));
                        }
                    }
                    [bytes(&[LAST, valid.len() as u64]), valid.concat()].concat()
                }
                other => panic!("opcode {other}"),
            };
            stream.write_all(&reply).await?;
        }
    }
}

async fn read_string(stream: &mut UnixStream) -> std::io::Result<String> {
    let length = usize::try_from(stream.read_u64_le().await?).unwrap();
    let mut text = vec![0; length.next_multiple_of(8)];
    stream.read_exact(&mut text).await?;
    text.truncate(length);
    Ok(String::from_utf8(text).unwrap())
}

fn string(text: &str) -> Vec<u8> {
    let mut string = [&bytes(&[text.len() as u64])[..], text.as_bytes()].concat();
    string.resize(8 + text.len().next_multiple_of(8), 0);
    string
}

fn scripted() -> (tempfile::TempDir, Store, Arc<Script>) {
    let script = Arc::new(Script::default());
    let shared = Arc::clone(&script);
    let change = |config: &mut crate::config::Config| config.gc_protection = Some(LENGTH);
    let (directory, store) =
        store_after(GREETING, change, move |number, stream| Arc::clone(&shared).converse(number, stream));
    (directory, store, script)
}

fn gc_roots(store: &Store) -> &GcRoots {
    store.gc_roots.as_ref().unwrap()
}

fn numbered(number: usize) -> Arc<ValidPath> {
    Arc::new(valid(StorePath::from_base_name(&format!("{number:032}-path")).unwrap()))
}

/// Extends the protection of a path, and waits until its root is set.
async fn serve(store: &Store, path: &Arc<ValidPath>) {
    gc_roots(store).extend(path);
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_path_is_protected_for_1_to_1_5_times_the_configured_time() {
    let (_directory, store, script) = scripted();
    let (often, once) = (numbered(1), numbered(2));
    serve(&store, &once).await;
    let begin = Instant::now();
    while begin.elapsed() < LENGTH * 4 {
        serve(&store, &often).await;
        assert!(script.has_root(&often), "at {:?}", begin.elapsed());
        assert!(script.has_root(&once) || begin.elapsed() >= LENGTH, "at {:?}", begin.elapsed());
        assert!(!script.has_root(&once) || begin.elapsed() <= LENGTH * 3 / 2 + SECOND, "at {:?}", begin.elapsed());
        sleep(7 * SECOND).await;
    }
    let last = Instant::now();
    sleep(LENGTH.checked_sub(8 * SECOND).unwrap()).await;
    assert!(script.has_root(&often));
    sleep((LENGTH * 3 / 2).saturating_sub(last.elapsed())).await;
    assert_eq!(script.connections(), 0);
    assert!((3..=4).contains(&*script.most_connections.lock()));
}

#[tokio::test(start_paused = true)]
async fn a_path_is_rooted_once_per_generation() {
    let (_directory, store, script) = scripted();
    let path = numbered(1);
    for _ in 0..100 {
        serve(&store, &path).await;
        // A new value, as if the path info was evicted from the cache.
        serve(&store, &numbered(2)).await;
    }
    assert_eq!(script.count(), 2);
    sleep(LENGTH / 2).await;
    serve(&store, &path).await;
    assert_eq!(script.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn only_paths_being_sent_are_rooted_in_the_next_generation() {
    let (_directory, store, script) = scripted();
    let (sent, other) = (numbered(1), numbered(2));
    serve(&store, &other).await;
    let guard = gc_roots(&store).protect(&sent).await.unwrap();
    let second = gc_roots(&store).protect(&sent).await.unwrap();
    for _ in 0..100 {
        assert!(script.has_root(&sent));
        sleep(LENGTH / 10).await;
    }
    assert!(!script.has_root(&other));
    drop(guard);
    sleep(LENGTH * 2).await;
    assert!(script.has_root(&sent));
    drop(second);
    sleep(LENGTH * 3 / 2).await;
    assert_eq!(script.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_nar_that_begins_in_an_old_generation_is_rooted_in_the_current_one() {
    for begins in [LENGTH / 2, LENGTH, (LENGTH * 3 / 2).saturating_sub(SECOND)] {
        let (_directory, store, script) = scripted();
        let path = numbered(1);
        serve(&store, &path).await;
        sleep(begins).await;
        let begin = Instant::now();
        let _guard = gc_roots(&store).protect(&path).await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO, "it waited for a root that it had");
        for _ in 0..30 {
            assert!(script.has_root(&path), "{begins:?}");
            sleep(LENGTH / 10).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crawl_sets_a_limited_number_of_roots_for_a_time() {
    const CRAWL: usize = 100_000;
    const MAX: usize = 16_384;
    let (_directory, store, script) = scripted();
    for number in 0..CRAWL {
        gc_roots(&store).extend(&numbered(number));
        if number % 1000 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    sleep(SECOND).await;
    assert_eq!(script.count(), MAX);
    // A NAR is rooted beyond the limit.
    let download = numbered(CRAWL);
    let _guard = gc_roots(&store).protect(&download).await.unwrap();
    assert!(script.has_root(&download));
    sleep(LENGTH * 3 / 2).await;
    // Once per generation.
    assert!(script.has_root(&download) && (3..=4).contains(&script.count()), "{}", script.count());
}

#[tokio::test(start_paused = true)]
async fn an_invalid_path_cannot_be_protected() {
    let (_directory, store, script) = scripted();
    let path = numbered(1);
    *script.invalid.lock() = format!("/nix/store/{}", path.path.base_name());
    let refused = gc_roots(&store).protect(&path).await.map(drop);
    assert!(matches!(&refused, Err(StoreError::NotValid(invalid)) if *invalid == path.path));
    assert!(gc_roots(&store).protect(&numbered(2)).await.is_ok());
    // Succeeds when the path is valid again.
    script.invalid.lock().clear();
    assert!(gc_roots(&store).protect(&numbered(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_nar_waits_for_a_blocked_nix_daemon_whose_roots_are_kept() {
    let (_directory, store, script) = scripted();
    let (rooted, new) = (numbered(1), numbered(2));
    serve(&store, &rooted).await;
    script.is_silent.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let _first = gc_roots(&store).protect(&new).await.unwrap();
    assert_eq!(begin.elapsed(), ROOT_TIMEOUT);
    let mut others = Vec::new();
    for number in 3..10 {
        others.push(gc_roots(&store).protect(&numbered(number)).await.unwrap());
        others.push(gc_roots(&store).protect(&rooted).await.unwrap());
    }
    assert_eq!(begin.elapsed(), ROOT_TIMEOUT);
    sleep(LENGTH).await;
    assert!(script.has_root(&rooted) && !script.has_root(&new));
    script.is_silent.store(false, Ordering::Relaxed);
    sleep(2 * SECOND).await;
    assert!(script.has_root(&rooted) && script.has_root(&new));
}

#[tokio::test(start_paused = true)]
async fn roots_lost_with_a_restart_are_set_again_for_their_old_time() {
    let (_directory, store, script) = scripted();
    let (sent, newer, older) = (numbered(1), numbered(2), numbered(3));
    serve(&store, &older).await;
    let begin = Instant::now();
    sleep(LENGTH / 2).await;
    serve(&store, &newer).await;
    let _guard = gc_roots(&store).protect(&sent).await.unwrap();
    script.restart.notify_waiters();
    sleep(Duration::from_millis(1)).await;
    assert!([&sent, &newer, &older].iter().all(|path| script.has_root(path)));
    let count = script.count();
    serve(&store, &newer).await;
    drop(gc_roots(&store).protect(&newer).await.unwrap());
    assert_eq!(script.count(), count, "a restored root was set twice");
    sleep((LENGTH * 3 / 2).saturating_sub(begin.elapsed()) + SECOND).await;
    assert!(script.has_root(&sent) && script.has_root(&newer) && !script.has_root(&older));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_loses_only_roots_of_its_own_connection_which_are_set_again() {
    let (_directory, store, script) = scripted();
    let (older, newer, new) = (numbered(1), numbered(2), numbered(3));
    serve(&store, &older).await;
    sleep(LENGTH / 2).await;
    serve(&store, &newer).await;
    script.omits_valid_paths.store(true, Ordering::Relaxed);
    gc_roots(&store).extend(&new);
    let is_first = |number: &usize| *number == 0;
    while script.has_root(&newer) {
        assert!(script.has_root(&older) && script.roots.lock().keys().any(is_first));
        sleep(SECOND).await;
    }
    script.omits_valid_paths.store(false, Ordering::Relaxed);
    let begin = Instant::now();
    while !script.has_root(&newer) {
        assert!(script.has_root(&older) && script.roots.lock().keys().any(is_first));
        sleep(SECOND).await;
    }
    assert!(begin.elapsed() <= crate::store::gc_roots::rooter::BACKOFF + SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_rooter_that_panics_is_restarted() {
    let (_directory, store, script) = scripted();
    let path = numbered(1);
    serve(&store, &path).await;
    let panics = StorePath::from_base_name(&format!("{:032}-panics", 2)).unwrap();
    gc_roots(&store).extend(&Arc::new(valid(panics)));
    while script.connections() > 0 {
        sleep(SECOND / 10).await;
    }
    sleep(2 * SECOND).await;
    serve(&store, &path).await;
    let _guard = gc_roots(&store).protect(&path).await.unwrap();
    assert!(script.has_root(&path));
}

#[tokio::test(start_paused = true)]
async fn a_refused_root_causes_one_backoff() {
    let (_directory, store, script) = scripted();
    let (rooted, sent) = (numbered(0), numbered(1));
    serve(&store, &rooted).await;
    script.refuses.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let _guard = gc_roots(&store).protect(&sent).await.unwrap();
    script.refuses.store(false, Ordering::Relaxed);
    let mut number = 2;
    while !script.has_root(&sent) {
        // Requests do not extend the backoff, and existing roots stay.
        serve(&store, &numbered(number)).await;
        number += 1;
        assert!(script.has_root(&rooted) && begin.elapsed() <= crate::store::gc_roots::rooter::BACKOFF + SECOND);
        sleep(SECOND / 10).await;
    }
    assert!(begin.elapsed() >= crate::store::gc_roots::rooter::BACKOFF);
}
