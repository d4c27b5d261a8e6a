//! More connections than the limit: new ones wait, and idle ones are reclaimed for them.

use crate::support::http::{Connection, Http};
use crate::support::http2_frames::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, frame, get};
use crate::support::metrics::{await_value, metrics, value};
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const OTHER: [u8; 4] = [127, 0, 0, 3];

const RECLAIMED: &str = "harmonia_reclaimed_total{resource=\"connection\"}";

/// Opens a connection, sends these bytes, and leaves it idle after the response, if the bytes are a complete request.
fn idle(http: Http, said: &str) -> Connection {
    let mut connection = http.connect().unwrap();
    connection.send(said.as_bytes()).unwrap();
    if said.ends_with("\r\n\r\n") {
        assert_eq!(connection.receive(false).unwrap().status, 200);
    }
    connection
}

#[test]
fn idle_connections_of_one_or_four_addresses_block_no_other_client() {
    const REQUEST: &str = "GET /health HTTP/1.1\r\nHost: cache\r\n\r\n";
    let daemon = ScriptedDaemon::start(StoreItem::file(b"small").script_for_any_path());
    let same: fn(u8) -> [u8; 4] = |_| OTHER;
    let four: fn(u8) -> [u8; 4] = |number| [127, 0, 1, number % 4];
    for (address, said) in [(same, REQUEST), (four, REQUEST), (four, ""), (four, "GET /health HTTP/1.1\r\nHos")] {
        let config = format!("{}trusted_proxies = []\nworkers = 1\nmax_connections = 64\n", daemon.config());
        let harmonia = Harmonia::start(&config);
        let crowd: Vec<_> = (0..64).map(|number| idle(harmonia.http().from(address(number)), said)).collect();
        let other = harmonia.http().from(OTHER);
        for _ in 0..20 {
            assert_eq!(other.get("/health").status, 200);
        }
        harmonia.wait_for_log("reclaimed one of 64 (connection) from 127.0.");
        assert!(value(&metrics(other), RECLAIMED).unwrap() >= 1.0);
        drop(crowd);
        await_value(other, "harmonia_http_connections{state=\"idle\"}", 0.0);
    }
}

/// Stalled downloads are not idle, but reclaimed for new connections after seconds without progress.
#[test]
fn connections_that_read_nothing_block_no_other_client() {
    let item = StoreItem::file_of(6 << 20);
    let daemon = ScriptedDaemon::start(item.script());
    let config = format!("{}trusted_proxies = []\nworkers = 1\nmax_connections = 4\n", daemon.config());
    let harmonia = Harmonia::start(&config);
    let readers: Vec<_> = (1..=4)
        .map(|number| {
            let mut connection = harmonia.http().from([127, 0, 1, number]).connect_narrow().unwrap();
            connection.send(format!("GET {} HTTP/1.1\r\nHost: cache\r\n\r\n", item.nar_url()).as_bytes()).unwrap();
            assert_eq!(connection.head().unwrap().status, 200);
            connection
        })
        .collect();
    let other = harmonia.http().from(OTHER);
    assert_eq!(other.get("/health").status, 200);
    assert_eq!(value(&metrics(other), RECLAIMED), Some(1.0));
    drop(readers);
}

/// Connections fill the limit, the queue of the program and the kernel's queue, each with a request that never completes.
#[test]
fn a_client_with_many_waiting_requests_blocks_no_other() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"small").script_for_any_path());
    let (go_on, pause) = std::sync::mpsc::channel::<()>();
    let pause = std::sync::Mutex::new(pause);
    daemon.play(Script::replying(move |_| {
        // Until the test ends.
        let _ = pause.lock().unwrap().recv();
        Wire::new().number(LAST).string("").into()
    }));
    let config = format!("{}trusted_proxies = []\nworkers = 1\nmax_connections = 8\n", daemon.config());
    let harmonia = Harmonia::start(&config);
    let crowd: Vec<_> = (0..30)
        .map(|number| {
            let mut connection = harmonia.http().from([127, 0, 0, 2]).connect().unwrap();
            let request = format!("GET /{number:032}.narinfo HTTP/1.1\r\nHost: cache\r\n\r\n");
            connection.send(request.as_bytes()).unwrap();
            connection
        })
        .collect();
    assert_eq!(harmonia.http().from(OTHER).get("/health").status, 200);
    harmonia.wait_for_log("closing connections of a client that is at its limit");
    drop((go_on, crowd));
}

#[test]
fn an_idle_http2_connection_gets_a_goaway() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"small").script_for_any_path());
    let harmonia = Harmonia::start(&format!("{}workers = 1\nmax_connections = 1\n", daemon.config()));
    let mut connection = RawHttp2::open(harmonia.address());
    connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/health")));
    assert_eq!(harmonia.http().get("/health").status, 200);
    let answers = connection.finish();
    assert_eq!((answers.goaway(), answers.statuses()), (Some(0), vec![(1, 200)]));
}

#[test]
fn connections_beyond_a_clients_limit_wait_and_those_of_others_do_not() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"small").script_for_any_path());
    let config = format!("{}trusted_proxies = []\nmax_connections_per_client = 4\n", daemon.config());
    let harmonia = Harmonia::start(&config);
    let (many, other) = (harmonia.http().from([127, 0, 0, 2]), harmonia.http().from(OTHER));
    let ask = |http: Http| {
        let mut connection = http.connect().unwrap();
        connection.send(b"GET /version HTTP/1.1\r\nHost: cache\r\n\r\n").unwrap();
        connection
    };
    let mut crowd: Vec<_> = (0..40).map(|_| ask(many)).collect();
    assert_eq!(other.get("/version").status, 200);
    for connection in &mut crowd {
        assert_eq!(connection.receive(false).unwrap().status, 200);
    }
    // A proxy has as many as there are.
    let harmonia = Harmonia::start(&format!("{}max_connections_per_client = 1\n", daemon.config()));
    let mut many: Vec<_> = (0..9).map(|_| ask(harmonia.http())).collect();
    assert!(many.iter_mut().all(|connection| connection.receive(false).unwrap().status == 200));
    assert_eq!(value(&metrics(harmonia.http()), RECLAIMED), Some(0.0));
}
