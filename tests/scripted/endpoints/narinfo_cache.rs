//! Cache of path infos: when nix-daemon is queried, how often, and for which request. The scripted daemon records every
//! query.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::thread;

use crate::support::http::Http;
use crate::support::keys;
use crate::support::metrics::await_value;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const MISSES: &str = r#"harmonia_narinfo_cache_requests_total{result="miss"}"#;
const IN_FLIGHT: &str = "harmonia_http_requests_in_flight";

/// Returns the queries for an item that is not cached.
fn queries(item: &StoreItem) -> Vec<Query> {
    vec![Query::PathFromHashPart(item.hash_part().to_owned()), Query::PathInfo(item.path.clone())]
}

/// Returns a script that waits at the first query until the sender is dropped, and then replies by `answer`.
fn waiting(answer: impl Fn(&Query) -> Reply + Send + Sync + 'static) -> (mpsc::Sender<()>, Script) {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let script = Script::replying(move |query| {
        let _ = released.lock().unwrap().recv();
        answer(query)
    });
    (release, script)
}

/// Creates a store directory with a file for the item; returns it and the line of the configuration that names it.
fn visible(item: &StoreItem) -> (PathBuf, String) {
    let directory = scratch::fresh_dir();
    let place = directory.join(item.path.rsplit_once('/').unwrap().1);
    fs::write(&place, "").unwrap();
    (place, format!("real_nix_store = \"{}\"\n", directory.display()))
}

fn replace(place: &Path) {
    // The old one is there until the new one is, so that it has another inode.
    let new = place.with_extension("new");
    symlink("elsewhere", &new).unwrap();
    fs::rename(new, place).unwrap();
}

fn statuses(http: Http, url: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| http.get(url).status).collect()
}

#[test]
fn a_narinfo_is_queried_once_and_its_nar_not_at_all() {
    let item = StoreItem::file(b"known");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let first = harmonia.http().get(&item.narinfo_url());
    let second = harmonia.http().get(&item.narinfo_url());
    assert_eq!((first.status, &first.body), (200, &second.body));
    assert_eq!(first.header("etag"), second.header("etag"));
    assert_eq!(harmonia.http().head(&item.nar_url()).status, 200);
    assert!(harmonia.http().get(&format!("{}?json", item.narinfo_url())).text().starts_with('{'));
    assert_eq!(daemon.seen().queries, queries(&item));
}

#[test]
fn concurrent_requests_for_a_path_are_one_query() {
    let item = StoreItem::file(b"wanted");
    let good = item.clone();
    let (release, script) = waiting(move |query| good.reply(query));
    let daemon = ScriptedDaemon::start(script);
    let harmonia = Harmonia::start(&daemon.config());
    let (http, url) = (harmonia.http(), item.narinfo_url());
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..20).map(|_| scope.spawn(|| http.get(&url).status)).collect();
        await_value(http, MISSES, 20.0);
        drop(release);
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == 200));
    });
    assert_eq!(daemon.seen().queries, queries(&item));
}

#[test]
fn the_first_of_several_waiting_clients_may_disconnect() {
    let item = StoreItem::file(b"wanted by another");
    let good = item.clone();
    let (release, script) = waiting(move |query| good.reply(query));
    let daemon = ScriptedDaemon::start(script);
    let harmonia = Harmonia::start(&daemon.config());
    let (http, url) = (harmonia.http(), item.narinfo_url());
    let mut first = TcpStream::connect(harmonia.address()).unwrap();
    first.write_all(format!("GET {url} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes()).unwrap();
    await_value(http, MISSES, 1.0);
    thread::scope(|scope| {
        let second = scope.spawn(|| http.get(&url).status);
        await_value(http, MISSES, 2.0);
        drop(first);
        // The second, and the one that asks.
        await_value(http, IN_FLIGHT, 2.0);
        drop(release);
        assert_eq!(second.join().unwrap(), 200);
    });
    assert_eq!(daemon.seen().queries, queries(&item));
}

#[test]
fn a_query_that_nobody_waits_for_is_abandoned() {
    let item = StoreItem::file(b"wanted by nobody");
    let good = item.clone();
    let (release, script) = waiting(move |query| good.reply(query));
    let daemon = ScriptedDaemon::start(script);
    let harmonia = Harmonia::start(&daemon.config());
    let (http, url) = (harmonia.http(), item.narinfo_url());
    let mut only = TcpStream::connect(harmonia.address()).unwrap();
    only.write_all(format!("GET {url} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes()).unwrap();
    await_value(http, MISSES, 1.0);
    daemon.wait_until(|seen| seen.queries.len() == 1);
    drop(only);
    await_value(http, IN_FLIGHT, 1.0);
    await_value(http, r#"harmonia_daemon_pool_in_use{pool="metadata"}"#, 0.0);
    drop(release);
    assert_eq!(http.get(&url).status, 200);
    assert_eq!(daemon.seen().queries, [&queries(&item)[..1], &queries(&item)].concat());
}

#[test]
fn invalid_paths_are_never_cached() {
    let item = StoreItem::file(b"added later");
    let other = "/11111111111111111111111111111111.narinfo";
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    assert_eq!(statuses(harmonia.http(), other, 3), [404; 3]);
    assert_eq!(daemon.seen().queries.len(), 3);
}

#[test]
fn an_error_is_returned_to_waiting_clients_only() {
    let item = StoreItem::file(b"behind an error");
    let (release, script) = waiting(|_| Wire::new().error("busy").into());
    let daemon = ScriptedDaemon::start(script);
    let harmonia = Harmonia::start(&daemon.config());
    let (http, url) = (harmonia.http(), item.narinfo_url());
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| http.get(&url).status)).collect();
        await_value(http, MISSES, 8.0);
        drop(release);
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == 502));
    });
    assert_eq!(daemon.seen().queries.len(), 1);
    daemon.play(item.script());
    assert_eq!(http.get(&url).status, 200);
}

#[test]
fn a_path_is_queried_again_only_if_its_stamp_changed() {
    let mut item = StoreItem::file(b"visible");
    let (place, config) = visible(&item);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&format!("{}{config}narinfo_cache.ttl = 86400\n", daemon.config()));
    let (http, url) = (harmonia.http(), item.narinfo_url());
    assert_eq!(statuses(http, &url, 3), [200; 3]);
    assert_eq!(daemon.seen().queries, queries(&item));

    // What the daemon says of another path of this name.
    let before = http.get(&url).body;
    item.references = vec![item.path.clone()];
    daemon.play(item.script());
    assert_eq!(http.get(&url).body, before);
    replace(&place);
    assert_ne!(http.get(&url).body, before);
    let asked = daemon.seen().queries.len();
    assert_eq!(statuses(http, &url, 3), [200; 3]);
    assert_eq!(daemon.seen().queries.len(), asked);

    daemon.play(Script::replying(|query| match query {
        Query::PathInfo(_) => Wire::new().number(LAST).number(0).into(),
        _ => Wire::new().number(LAST).string("").into(),
    }));
    assert_eq!(http.get(&url).status, 200);
    fs::remove_file(&place).unwrap();
    assert_eq!(statuses(http, &url, 2), [404; 2]);
}

#[test]
fn an_unchanged_path_is_served_at_any_age_while_the_daemon_is_silent() {
    let item = StoreItem::file(b"still there");
    let (place, config) = visible(&item);
    let config = |daemon: &ScriptedDaemon| format!("{}{config}narinfo_cache.ttl = 0\n", daemon.config());
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&config(&daemon));
    let (http, url) = (harmonia.http(), item.narinfo_url());
    assert_eq!(statuses(http, &url, 2), [200; 2]);
    assert_eq!(daemon.seen().queries.len(), 3, "with a ttl of 0 each request asks");
    daemon.play(Script::replying(|_| Reply::then_disconnect([])));
    assert_eq!(statuses(http, &url, 3), [200; 3]);
    harmonia.wait_for_log("WARN nix-daemon does not respond, serving cached path info of paths that still exist: ");
    assert_eq!(http.get("/11111111111111111111111111111111.narinfo").status, 502);
    fs::remove_file(place).unwrap();
    assert_eq!(http.get(&url).status, 502);

    // Not so where the daemon does answer.
    let (_place, _) = visible(&item);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&config(&daemon));
    assert_eq!(harmonia.http().get(&url).status, 200);
    daemon.play(Script::replying(|_| Wire::new().number(LAST).number(0).into()));
    assert_eq!(harmonia.http().get(&url).status, 404);
}

#[test]
fn an_invisible_path_is_queried_again_when_stale_or_after_its_nar_fails() {
    let item = StoreItem::file(b"far away");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&format!("{}narinfo_cache.ttl = 0\n", daemon.config()));
    assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200);
    daemon.play(Script::replying(|_| Reply::then_disconnect([])));
    assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 502);

    // In place of the end of the log lines, and after it.
    for refusal in [Wire::new().error("deleted"), Wire::new().number(LAST).error("deleted")] {
        let daemon = ScriptedDaemon::start(item.script());
        let harmonia = Harmonia::start(&daemon.config());
        let http = harmonia.http();
        assert_eq!(http.get(&item.narinfo_url()).status, 200);
        let refusal = refusal.done();
        daemon.play(Script::replying(move |query| match query {
            Query::Nar(_) => Wire::new().raw(&refusal).into(),
            _ => Wire::new().number(LAST).number(0).into(),
        }));
        assert_eq!(http.get(&item.nar_url()).status, 502);
        assert_eq!(http.get(&item.nar_url()).status, 404);
        assert_eq!(http.get(&item.narinfo_url()).status, 404);
    }
}

#[test]
fn a_nar_url_with_another_hash_than_the_cached_one_is_queried() {
    let old = StoreItem::file(b"as it was");
    let new = StoreItem::file(b"as it is by now");
    let daemon = ScriptedDaemon::start(old.script());
    let harmonia = Harmonia::start(&daemon.config());
    let http = harmonia.http();
    assert_eq!(http.get(&old.narinfo_url()).status, 200);
    daemon.play(new.script());
    assert_eq!(http.get(&new.nar_url()).body, new.nar);
    assert_eq!(http.get(&old.nar_url()).status, 404);
    daemon.play(Script::replying(|_| Wire::new().number(LAST).number(0).into()));
    assert_eq!(http.get(&old.nar_url()).status, 404);
    assert_eq!(http.get(&new.narinfo_url()).status, 404, "the daemon has said that it is not valid");
}

#[test]
fn path_info_is_queried_again_after_its_nar_fails_verification() {
    let item = StoreItem::file(b"of a wrong size");
    let mut wrong = item.clone();
    wrong.nar_size += 8;
    let daemon = ScriptedDaemon::start(wrong.script());
    let harmonia = Harmonia::start(&daemon.config());
    let http = harmonia.http();
    let _ = http.get_failing(&item.nar_url(), &[]);
    daemon.play(item.script());
    assert_eq!(http.get(&item.nar_url()).body, item.nar);
}

#[test]
fn a_cache_size_of_0_caches_nothing() {
    let item = StoreItem::file(b"forgotten");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config_without_cache());
    assert_eq!(statuses(harmonia.http(), &item.narinfo_url(), 2), [200; 2]);
    assert_eq!(daemon.seen().queries, [queries(&item), queries(&item)].concat());
    await_value(harmonia.http(), "harmonia_narinfo_cache_bytes", 0.0);
}

#[test]
fn a_long_narinfo_is_encoded_for_who_accepts_it_the_same_each_time() {
    let mut item = StoreItem::file(b"much to tell");
    item.references = (0..100).map(|n| format!("/nix/store/{n:032}-reference")).collect();
    let daemon = ScriptedDaemon::start(item.script());
    let config = format!("{}{}sign_key_paths = [{:?}]\n", daemon.config(), nar_cache_on_demand(), keys::OURS.secret);
    let harmonia = Harmonia::start(&config);
    let (http, url) = (harmonia.http(), item.narinfo_url());
    let plain = http.get(&url);
    let encoded: Vec<_> = (0..2).map(|_| http.get_with(&url, &[("Accept-Encoding", "zstd")])).collect();
    for encoded in &encoded {
        assert_eq!(encoded.header("content-encoding"), Some("zstd"));
        assert_eq!(zstd::decode_all(&encoded.body[..]).unwrap(), plain.body);
        assert_ne!(encoded.header("etag"), plain.header("etag"));
    }
    assert_eq!((&encoded[0].body, encoded[0].header("etag")), (&encoded[1].body, encoded[1].header("etag")));
    assert_eq!(http.get(&url).body, plain.body);
    let held = encoded[0].header("etag").unwrap();
    assert_eq!(http.get_with(&url, &[("Accept-Encoding", "zstd"), ("If-None-Match", held)]).status, 304);
}
