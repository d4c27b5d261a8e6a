//! Generations and what goes wrong with them, against a daemon that roots as Nix does and a clock that is not waited for.

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

/// What the test and its daemon share.
#[derive(Default)]
struct Stage {
    /// Those of each connection that is open, and of none that is not.
    roots: Mutex<BTreeMap<usize, Vec<String>>>,
    most_connections: Mutex<usize>,
    is_silent: AtomicBool,
    refuses: AtomicBool,
    /// Whether it leaves open which paths are valid.
    is_late: AtomicBool,
    /// The one path that is not valid.
    invalid: Mutex<String>,
    /// Ends all connections when it is told to.
    restart: tokio::sync::Notify,
}

impl Stage {
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
            _ = self.answer(number, &mut stream) => {}
            () = self.restart.notified() => {}
        }
        self.roots.lock().remove(&number);
    }

    async fn answer(&self, number: usize, stream: &mut UnixStream) -> std::io::Result<()> {
        loop {
            let reply = match stream.read_u64_le().await? {
                11 => {
                    let path = read_string(stream).await?;
                    // What has been asked by then waits too, as in a collection of Nix 2.3.
                    while self.is_silent.load(Ordering::Relaxed) {
                        sleep(SECOND).await;
                    }
                    if self.refuses.load(Ordering::Relaxed) {
                        [&bytes(&[ERROR])[..], &string("no roots today"), &bytes(&[1])].concat()
                    } else {
                        self.roots.lock().get_mut(&number).unwrap().push(path);
                        bytes(&[LAST, 1])
                    }
                }
                31 => {
                    if self.is_late.load(Ordering::Relaxed) {
                        // To the end of the connection.
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

fn staged() -> (tempfile::TempDir, Store, Arc<Stage>) {
    let stage = Arc::new(Stage::default());
    let staged = Arc::clone(&stage);
    let change = |config: &mut crate::config::Config| config.gc_protection = Some(LENGTH);
    let (directory, store) =
        store_after(GREETING, change, move |number, stream| Arc::clone(&staged).converse(number, stream));
    (directory, store, stage)
}

fn gc_roots(store: &Store) -> &GcRoots {
    store.gc_roots.as_ref().unwrap()
}

fn numbered(number: usize) -> Arc<ValidPath> {
    Arc::new(valid(StorePath::from_base_name(&format!("{number:032}-path")).unwrap()))
}

/// Gives a path out, and waits until that has had its effect.
async fn give_out(store: &Store, path: &Arc<ValidPath>) {
    gc_roots(store).extend(path);
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_path_lives_for_the_lease_after_it_was_last_given_out_and_for_half_as_long_at_most() {
    let (_directory, store, stage) = staged();
    let (often, once) = (numbered(1), numbered(2));
    give_out(&store, &once).await;
    let begin = Instant::now();
    while begin.elapsed() < LENGTH * 4 {
        give_out(&store, &often).await;
        assert!(stage.has_root(&often), "at {:?}", begin.elapsed());
        assert!(stage.has_root(&once) || begin.elapsed() >= LENGTH, "at {:?}", begin.elapsed());
        assert!(!stage.has_root(&once) || begin.elapsed() <= LENGTH * 3 / 2 + SECOND, "at {:?}", begin.elapsed());
        sleep(7 * SECOND).await;
    }
    let last = Instant::now();
    sleep(LENGTH.checked_sub(8 * SECOND).unwrap()).await;
    assert!(stage.has_root(&often));
    sleep((LENGTH * 3 / 2).saturating_sub(last.elapsed())).await;
    assert_eq!(stage.connections(), 0);
    assert!((3..=4).contains(&*stage.most_connections.lock()));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_rooted_already_is_not_rooted_again_before_its_generation_ends() {
    let (_directory, store, stage) = staged();
    let path = numbered(1);
    for _ in 0..100 {
        give_out(&store, &path).await;
        // As it is when it is not kept in memory.
        give_out(&store, &numbered(2)).await;
    }
    assert_eq!(stage.count(), 2);
    sleep(LENGTH / 2).await;
    give_out(&store, &path).await;
    assert_eq!(stage.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_sent_outlives_its_generation_and_nothing_else_does() {
    let (_directory, store, stage) = staged();
    let (sent, other) = (numbered(1), numbered(2));
    give_out(&store, &other).await;
    let held = gc_roots(&store).hold(&sent).await.unwrap();
    let second = gc_roots(&store).hold(&sent).await.unwrap();
    for _ in 0..100 {
        assert!(stage.has_root(&sent));
        sleep(LENGTH / 10).await;
    }
    assert!(!stage.has_root(&other));
    drop(held);
    sleep(LENGTH * 2).await;
    assert!(stage.has_root(&sent));
    drop(second);
    sleep(LENGTH * 3 / 2).await;
    assert_eq!(stage.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_nar_that_begins_when_its_generation_is_old_is_rooted_in_another() {
    for begins in [LENGTH / 2, LENGTH, (LENGTH * 3 / 2).saturating_sub(SECOND)] {
        let (_directory, store, stage) = staged();
        let path = numbered(1);
        give_out(&store, &path).await;
        sleep(begins).await;
        let begin = Instant::now();
        let _held = gc_roots(&store).hold(&path).await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO, "it waited for a root that it had");
        for _ in 0..30 {
            assert!(stage.has_root(&path), "{begins:?}");
            sleep(LENGTH / 10).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crawl_holds_so_many_roots_and_lets_go_of_them() {
    const CRAWL: usize = 100_000;
    const MAX: usize = 16_384;
    let (_directory, store, stage) = staged();
    for number in 0..CRAWL {
        gc_roots(&store).extend(&numbered(number));
        if number % 1000 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    sleep(SECOND).await;
    assert_eq!(stage.count(), MAX);
    // A download has its root all the same.
    let download = numbered(CRAWL);
    let _held = gc_roots(&store).hold(&download).await.unwrap();
    assert!(stage.has_root(&download));
    sleep(LENGTH * 3 / 2).await;
    // Once in each generation.
    assert!(stage.has_root(&download) && (3..=4).contains(&stage.count()), "{}", stage.count());
}

#[tokio::test(start_paused = true)]
async fn a_path_that_turns_out_not_to_be_valid_has_no_nar() {
    let (_directory, store, stage) = staged();
    let path = numbered(1);
    *stage.invalid.lock() = format!("/nix/store/{}", path.path.base_name());
    let refused = gc_roots(&store).hold(&path).await.map(drop);
    assert!(matches!(&refused, Err(StoreError::NotValid(invalid)) if *invalid == path.path));
    assert!(gc_roots(&store).hold(&numbered(2)).await.is_ok());
    // And has one when it is valid again.
    stage.invalid.lock().clear();
    assert!(gc_roots(&store).hold(&numbered(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_sets_no_root_now_is_waited_for_by_one_nar_and_keeps_the_roots_that_it_has() {
    let (_directory, store, stage) = staged();
    let (rooted, new) = (numbered(1), numbered(2));
    give_out(&store, &rooted).await;
    stage.is_silent.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let _first = gc_roots(&store).hold(&new).await.unwrap();
    assert_eq!(begin.elapsed(), PATIENCE);
    let mut others = Vec::new();
    for number in 3..10 {
        others.push(gc_roots(&store).hold(&numbered(number)).await.unwrap());
        others.push(gc_roots(&store).hold(&rooted).await.unwrap());
    }
    assert_eq!(begin.elapsed(), PATIENCE);
    sleep(LENGTH).await;
    assert!(stage.has_root(&rooted) && !stage.has_root(&new));
    stage.is_silent.store(false, Ordering::Relaxed);
    sleep(2 * SECOND).await;
    assert!(stage.has_root(&rooted) && stage.has_root(&new));
}

#[tokio::test(start_paused = true)]
async fn roots_that_ended_with_their_daemon_are_set_again_and_live_no_longer_for_that() {
    let (_directory, store, stage) = staged();
    let (sent, known, older) = (numbered(1), numbered(2), numbered(3));
    give_out(&store, &older).await;
    let begin = Instant::now();
    sleep(LENGTH / 2).await;
    give_out(&store, &known).await;
    let _held = gc_roots(&store).hold(&sent).await.unwrap();
    stage.restart.notify_waiters();
    sleep(Duration::from_millis(1)).await;
    assert!([&sent, &known, &older].iter().all(|path| stage.has_root(path)));
    let count = stage.count();
    give_out(&store, &known).await;
    drop(gc_roots(&store).hold(&known).await.unwrap());
    assert_eq!(stage.count(), count, "what had a root again got another");
    sleep((LENGTH * 3 / 2).saturating_sub(begin.elapsed()) + SECOND).await;
    assert!(stage.has_root(&sent) && stage.has_root(&known) && !stage.has_root(&older));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_costs_no_root_of_another_connection_and_those_of_its_own_are_set_again() {
    let (_directory, store, stage) = staged();
    let (older, known, new) = (numbered(1), numbered(2), numbered(3));
    give_out(&store, &older).await;
    sleep(LENGTH / 2).await;
    give_out(&store, &known).await;
    stage.is_late.store(true, Ordering::Relaxed);
    gc_roots(&store).extend(&new);
    let is_first = |number: &usize| *number == 0;
    while stage.has_root(&known) {
        assert!(stage.has_root(&older) && stage.roots.lock().keys().any(is_first));
        sleep(SECOND).await;
    }
    stage.is_late.store(false, Ordering::Relaxed);
    let begin = Instant::now();
    while !stage.has_root(&known) {
        assert!(stage.has_root(&older) && stage.roots.lock().keys().any(is_first));
        sleep(SECOND).await;
    }
    assert!(begin.elapsed() <= crate::store::gc_roots::rooter::PAUSE + SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_panics_begins_anew() {
    let (_directory, store, stage) = staged();
    let path = numbered(1);
    give_out(&store, &path).await;
    let panics = StorePath::from_base_name(&format!("{:032}-panics", 2)).unwrap();
    gc_roots(&store).extend(&Arc::new(valid(panics)));
    while stage.connections() > 0 {
        sleep(SECOND / 10).await;
    }
    sleep(2 * SECOND).await;
    give_out(&store, &path).await;
    let _held = gc_roots(&store).hold(&path).await.unwrap();
    assert!(stage.has_root(&path));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_refuses_a_root_is_left_alone_for_a_while_and_no_longer() {
    let (_directory, store, stage) = staged();
    let (rooted, sent) = (numbered(0), numbered(1));
    give_out(&store, &rooted).await;
    stage.refuses.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let _held = gc_roots(&store).hold(&sent).await.unwrap();
    stage.refuses.store(false, Ordering::Relaxed);
    let mut number = 2;
    while !stage.has_root(&sent) {
        // Neither do wishes make it longer, nor does it cost the roots that there are.
        give_out(&store, &numbered(number)).await;
        number += 1;
        assert!(stage.has_root(&rooted) && begin.elapsed() <= crate::store::gc_roots::rooter::PAUSE + SECOND);
        sleep(SECOND / 10).await;
    }
    assert!(begin.elapsed() >= crate::store::gc_roots::rooter::PAUSE);
}
