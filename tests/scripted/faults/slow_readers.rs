//! Clients that stop reading, or read a byte now and then: their resources are reclaimed as soon as others need them, and not
//! before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::http::{Connection, Http};
use crate::support::http2_frames::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, WINDOW_UPDATE, frame, get};
use crate::support::metrics::{await_value, metrics, value};
use crate::support::nar_cache::{nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const OTHER: [u8; 4] = [127, 0, 0, 3];
/// Size that exceeds the buffers of the server and of both sockets: the kernel may buffer 4 MiB.
const LARGE: usize = 6 << 20;
/// Limit on concurrent NAR streams.
const STREAMS: u8 = 16;
const IN_USE: &str = "harmonia_daemon_pool_in_use{pool=\"nar\"}";
const RECLAIMED: &str = "harmonia_reclaimed_total{resource=\"nar_stream\"}";

/// Daemon with a large and a small NAR.
struct Store {
    small: StoreItem,
    large: StoreItem,
    daemon: ScriptedDaemon,
}

fn store() -> Store {
    let at = |number: u32, item: StoreItem| StoreItem { path: format!("/nix/store/{number:032}-item"), ..item };
    let (small, large) = (at(1, StoreItem::file(b"small")), at(2, StoreItem::file_of(LARGE)));
    let items = [small.clone(), large.clone()];
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        let none = || Reply::from(Wire::new().number(LAST).string(""));
        StoreItem::reply_among(&items, query).unwrap_or_else(none)
    }));
    Store { small, large, daemon }
}

/// Starts a server without trusted proxies and without a NAR cache.
fn server(daemon: &ScriptedDaemon) -> Harmonia {
    Harmonia::start(&format!(
        "{}trusted_proxies = []\nenable_compression = false\nnar_source = \"daemon\"\n",
        daemon.config()
    ))
}

/// Sends a request and reads only the head of the response.
fn stopped(http: Http, url: &str) -> Connection {
    let mut connection = http.connect_narrow().unwrap();
    connection.send(format!("GET {url} HTTP/1.1\r\nHost: cache\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    connection
}

/// Checks that all URLs of the small path that need its NAR are served.
fn has_all(http: Http, small: &StoreItem) {
    assert_eq!(http.get(&small.narinfo_url()).status, 200);
    assert!(http.get(&small.nar_url()).body == small.nar);
    assert_eq!(http.get(&format!("/{}.ls", small.hash_part())).status, 200);
    let part = http.get_with(&small.nar_url(), &[("Range", "bytes=8-")]);
    assert!(part.status == 206 && part.body == small.nar[8..]);
}

#[test]
fn stopped_readers_are_reclaimed_whether_they_are_many_clients_or_one() {
    let Store { small, large, daemon } = store();
    let many: fn(u8) -> [u8; 4] = |number| [127, 0, 1, number];
    let one: fn(u8) -> [u8; 4] = |_| OTHER;
    for address in [many, one] {
        let harmonia = server(&daemon);
        let other = harmonia.http().from(OTHER);
        let mut readers: Vec<_> =
            (1..=STREAMS).map(|number| stopped(harmonia.http().from(address(number)), &large.nar_url())).collect();
        await_value(other, IN_USE, f64::from(STREAMS));
        has_all(other, &small);
        let reclaimed = value(&metrics(other), RECLAIMED).unwrap();
        assert!((1.0..f64::from(STREAMS)).contains(&reclaimed), "{reclaimed}");
        harmonia.wait_for_log("reclaimed one of 16 (nar_stream) from 127.0.");
        // A client whose download was reclaimed gets no complete NAR, and resumes it.
        let bodies: Vec<_> = readers.iter_mut().map(|reader| reader.read(large.nar.len() as u64).unwrap()).collect();
        let cut = bodies.iter().find(|body| body.len() < large.nar.len()).unwrap();
        assert!(large.nar.starts_with(cut));
        assert!(bodies.contains(&large.nar));
        let range = format!("bytes={}-", cut.len());
        let rest = other.get_with(&large.nar_url(), &[("Range", &range)]);
        assert!(rest.status == 206 && rest.body == large.nar[cut.len()..]);
    }
}

/// Streams with full windows do not block the other streams of their connection.
#[test]
fn unread_http2_streams_are_reclaimed_and_their_connection_stays() {
    let Store { small, large, daemon } = store();
    let harmonia = server(&daemon);
    let other = harmonia.http().from(OTHER);
    let mut connection = RawHttp2::open(harmonia.address());
    for stream in 0..u32::from(STREAMS) {
        connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &get(&large.nar_url())));
    }
    await_value(other, IN_USE, f64::from(STREAMS));
    has_all(other, &small);
    let reclaimed = value(&metrics(other), RECLAIMED).unwrap();
    assert!((1.0..f64::from(STREAMS)).contains(&reclaimed), "{reclaimed}");
    // It is still answered, with a head.
    connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 101, &get("/health")));
    connection.send(&frame(WINDOW_UPDATE, 0, 0, &i32::to_be_bytes(1 << 30)));
    for stream in 0..u32::from(STREAMS) {
        connection.send(&frame(WINDOW_UPDATE, 0, 2 * stream + 1, &i32::to_be_bytes(1 << 30)));
    }
    let answers = connection.finish();
    let resets = (0..u32::from(STREAMS)).filter(|stream| answers.reset(2 * stream + 1).is_some()).count();
    assert!(resets >= 1 && resets < usize::from(STREAMS), "{resets}");
    assert!(answers.statuses().contains(&(101, 200)));
}

#[test]
fn a_reader_of_a_byte_now_and_then_is_reclaimed() {
    let Store { small, large, daemon } = store();
    let harmonia = server(&daemon);
    let other = harmonia.http().from(OTHER);
    let readers: Vec<_> =
        (1..=STREAMS).map(|number| stopped(harmonia.http().from([127, 0, 1, number]), &large.nar_url())).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for mut reader in readers {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) && reader.read(1).is_ok_and(|read| !read.is_empty()) {
                    // The pace of the client is under test.
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
        await_value(other, IN_USE, f64::from(STREAMS));
        has_all(other, &small);
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_paused_reader_is_not_disconnected_while_nobody_waits() {
    let Store { small, large, daemon } = store();
    let harmonia = server(&daemon);
    let other = harmonia.http().from(OTHER);
    let mut paused: Vec<_> =
        (1..STREAMS).map(|number| stopped(harmonia.http().from([127, 0, 1, number]), &large.nar_url())).collect();
    for _ in 0..20 {
        has_all(other, &small);
    }
    assert!(paused.iter_mut().all(|reader| reader.read(large.nar.len() as u64).unwrap() == large.nar));
    assert_eq!(value(&metrics(other), RECLAIMED), Some(0.0));
}

/// Each of them would hold the memory of a chunk while it waits, and so use up all chunks.
#[test]
fn clients_that_wait_for_a_fill_reserve_no_memory() {
    const WAITING: usize = 600;
    let Store { large, daemon, .. } = store();
    // Not so short that it takes no memory.
    let small = StoreItem { path: format!("/nix/store/{:032}-item", 3), ..StoreItem::file_of(100_000) };
    let (go_on, pause) = std::sync::mpsc::channel::<()>();
    let pause = Arc::new(std::sync::Mutex::new(pause));
    let items = [small.clone(), large.clone()];
    daemon.play(Script::replying(move |query| {
        if matches!(query, Query::Nar(path) if *path == items[1].path) {
            // Until the test ends.
            let _ = pause.lock().unwrap().recv();
        }
        StoreItem::reply_among(&items, query).unwrap()
    }));
    let config = with_nar_cache(&scratch::fresh_dir().join("nars"), &daemon.config());
    let harmonia = Harmonia::start(&format!("trusted_proxies = []\nnar_source = \"daemon\"\n{config}"));
    let other = harmonia.http().from(OTHER);
    let warm = nar_url_of(other, &small.narinfo_url());
    let expected = other.get(&warm).body;
    await_value(other, "harmonia_nar_cache_fills", 0.0);
    let stopped = nar_url_of(other, &large.narinfo_url());
    let ask = |_| {
        let mut connection = harmonia.http().connect().unwrap();
        connection.send(format!("GET {stopped} HTTP/1.1\r\nHost: cache\r\n\r\n").as_bytes()).unwrap();
        connection
    };
    let mut waiting: Vec<_> = (0..WAITING).map(ask).collect();
    // From here on their bodies are asked for.
    assert!(waiting.iter_mut().all(|connection| connection.head().unwrap().status == 200));
    assert!(other.get(&warm).body == expected);
    assert!(other.get(&small.nar_url()).body == small.nar);
    // All of them still wait.
    let in_flight = value(&metrics(other), "harmonia_http_requests_in_flight");
    assert_eq!(in_flight, Some(f64::from(u32::try_from(WAITING).unwrap()) + 1.0));
    drop(go_on);
}
