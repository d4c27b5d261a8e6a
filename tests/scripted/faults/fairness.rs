//! One greedy client requests much and reads nothing, and the others are served all the same.
//!
//! The tests do not depend on timing: the daemon never completes the NARs of the greedy client, so that a request that waits
//! for them never gets a response.

use crate::support::http::{Connection, Http};
use crate::support::metrics::await_value;
use crate::support::nar_cache::{decoded, nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const GREEDY: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];
/// Number of greedy requests: nearly the limit of connections of a client, and far more than any other limit.
const REQUESTS: u32 = 60;
const LARGE: u64 = 64 << 20;
const WAITING_FOR_NARS: &str = "harmonia_daemon_pool_waiting{pool=\"nar\"}";
/// Configuration without trusted proxies.
const NO_PROXIES: &str = "trusted_proxies = []\n";

/// Daemon with many large NARs, of which it sends only the first MiB, and a small one.
struct Store {
    small: StoreItem,
    large: Vec<StoreItem>,
    daemon: ScriptedDaemon,
}

fn store() -> Store {
    let numbered = |number: u32, item: StoreItem| StoreItem { path: format!("/nix/store/{number:032}-item"), ..item };
    let head = Wire::new().string("nix-archive-1").string("(").string("type").string("regular").string("contents");
    let beginning = StoreItem::with_nar(head.number(LARGE).raw(&vec![7; 1 << 20]).done());
    let beginning = StoreItem { nar_size: LARGE + 112, ..beginning };
    // Each of another hash: what is the same is compressed once.
    let hashed = |number: u32| StoreItem { nar_hash: format!("{number:064x}"), ..beginning.clone() };
    let large: Vec<_> = (1..=REQUESTS).map(|number| numbered(number, hashed(number))).collect();
    let small = numbered(0, StoreItem::file(b"small"));
    let items: Vec<_> = [&small].into_iter().chain(&large).cloned().collect();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        let none = || Reply::from(Wire::new().number(LAST).number(0));
        StoreItem::reply_among(&items, query).unwrap_or_else(none)
    }));
    Store { small, large, daemon }
}

/// Requests these URLs one after the other, waits until each request has arrived, and reads nothing.
fn ask_and_do_not_read(http: Http, urls: impl Iterator<Item = String>, headers: &str) -> Vec<Connection> {
    let ask = |url| {
        let mut connection = http.connect().unwrap();
        connection.send(format!("GET {url} HTTP/1.1\r\nHost: cache\r\n{headers}\r\n").as_bytes()).unwrap();
        connection
    };
    urls.map(ask).collect()
}

/// Checks that all URLs of the small path are served.
fn has_all(http: Http, small: &StoreItem, compressed: Option<&str>) {
    assert_eq!(http.get(&small.narinfo_url()).status, 200);
    if let Some(url) = compressed {
        assert!(decoded(&http.get(url).body) == small.nar);
    }
    assert!(http.get(&small.nar_url()).body == small.nar);
    assert_eq!(http.get(&format!("/{}.ls", small.hash_part())).status, 200);
    let part = http.get_with(&small.nar_url(), &[("Range", "bytes=8-")]);
    assert!(part.status == 206 && part.body == small.nar[8..]);
}

/// Checks that with this configuration a greedy client, identified by address or headers, with a waiting fill for each of
/// its requests does not block the fills of others.
fn compressed_nars_of_one_client_leave_others_theirs(config: &str, greedy: fn(Http) -> (Http, &'static str)) {
    let Store { small, large, daemon } = store();
    let harmonia = Harmonia::start(&format!("{}{config}", daemon.config()));
    let other = harmonia.http().from(OTHER);
    let (greedy, headers) = greedy(harmonia.http());
    let urls: Vec<_> = large.iter().map(|item| nar_url_of(harmonia.http(), &item.narinfo_url())).collect();
    let small_url = nar_url_of(harmonia.http(), &small.narinfo_url());
    let kept = ask_and_do_not_read(greedy, urls.into_iter(), headers);
    await_value(other, "harmonia_nar_cache_fills", f64::from(REQUESTS));
    has_all(other, &small, Some(&small_url));
    drop(kept);
}

fn by_address(http: Http) -> (Http, &'static str) {
    (http.from(GREEDY), "")
}

#[test]
fn sixty_large_fills_of_one_client_do_not_starve_others() {
    let config = with_nar_cache(&scratch::fresh_dir().join("nars"), NO_PROXIES);
    compressed_nars_of_one_client_leave_others_theirs(&config, by_address);
}

#[test]
fn a_proxys_clients_are_told_apart_by_the_address_that_it_forwards() {
    let config = with_nar_cache(&scratch::fresh_dir().join("nars"), "");
    let by_header = |http| (http, "X-Forwarded-For: 192.0.2.1\r\n");
    compressed_nars_of_one_client_leave_others_theirs(&config, by_header);
}

/// The greedy client uses all NAR connections to nix-daemon, more than its share, although the daemon stalls and not it.
#[test]
fn nars_that_never_end_are_reclaimed_for_clients_with_fewer() {
    let Store { small, large, daemon } = store();
    let harmonia = Harmonia::start(&format!("{}{NO_PROXIES}max_nar_connections = 4\n", daemon.config()));
    let (greedy, other) = (harmonia.http().from(GREEDY), harmonia.http().from(OTHER));
    let kept = ask_and_do_not_read(greedy, large.iter().map(StoreItem::nar_url), "");
    await_value(other, WAITING_FOR_NARS, f64::from(REQUESTS) - 4.0);
    await_value(other, "harmonia_daemon_pool_in_use{pool=\"nar\"}", 4.0);
    assert!(other.get(&small.nar_url()).body == small.nar);
    drop(kept);
    // Whoever leaves the queue is not waited for.
    await_value(other, WAITING_FOR_NARS, 0.0);
}

#[test]
fn narinfo_queries_of_one_client_do_not_delay_those_of_others() {
    let Store { small, large, daemon } = store();
    let harmonia = Harmonia::start(&format!("{}{NO_PROXIES}max_metadata_connections = 1\n", daemon.config()));
    let (greedy, other) = (harmonia.http().from(GREEDY), harmonia.http().from(OTHER));
    // The daemon answers the first one when it has been told to go on.
    let (go_on, pause) = std::sync::mpsc::channel::<()>();
    let (items, pause) = (large.clone(), std::sync::Mutex::new(Some(pause)));
    let last = small.clone();
    daemon.play(Script::replying(move |query| {
        if let Some(pause) = pause.lock().unwrap().take() {
            pause.recv().unwrap();
        }
        let items = [&last].into_iter().chain(&items);
        let asked = |item: &&StoreItem| match query {
            Query::PathFromHashPart(hash) => hash == item.hash_part(),
            Query::PathInfo(path) => *path == item.path,
            _ => false,
        };
        items.clone().find(asked).unwrap().reply(query)
    }));
    let waiting = "harmonia_daemon_pool_waiting{pool=\"metadata\"}";
    let kept = ask_and_do_not_read(greedy, large.iter().map(StoreItem::narinfo_url), "");
    await_value(other, waiting, f64::from(REQUESTS) - 1.0);
    let mut late = ask_and_do_not_read(other, [small.narinfo_url()].into_iter(), "");
    await_value(other, waiting, f64::from(REQUESTS));
    go_on.send(()).unwrap();
    assert_eq!(late[0].receive(false).unwrap().status, 200);
    let about = |wanted: &StoreItem| {
        let hash = Query::PathFromHashPart(wanted.hash_part().to_owned());
        daemon.seen().queries.iter().position(|asked| *asked == hash)
    };
    // It was the first or the second that was asked about after the pause.
    let before = large.iter().filter_map(about).filter(|at| Some(*at) < about(&small)).count();
    assert!(before <= 2, "{before}");
    drop(kept);
}
