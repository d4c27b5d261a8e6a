//! nix-daemons with a broken handshake, broken replies or broken connections: every request gets a 502 without details, never
//! a 404, and the log has the reason.
//!
//! Timeouts are not tested here: they are 10 s to 60 s.

use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::http::Response;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon, greeting};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, NEXT, Wire};

const MAGIC: u64 = 0x6478_696f;
const HUGE: u64 = 1 << 62;

const PHRASES: [&str; 4] = [
    "nix-daemon is unreachable",
    "nix-daemon refuses this user",
    "nix-daemon timed out",
    "nix-daemon sent an error or invalid data",
];

fn is_unavailable(response: &Response, case: &str) {
    assert_eq!(response.status, 502, "{case}");
    // Nothing of the daemon's error message.
    let (text, id) = (response.text(), response.header("x-request-id").unwrap());
    let phrase = text.strip_suffix(&format!(" (request {id})\n")).unwrap_or_else(|| panic!("{case}: {text}"));
    assert!(PHRASES.contains(&phrase), "{case}: {text}");
    for (name, value) in [("accept-ranges", "bytes"), ("cache-control", "no-store")] {
        assert_eq!(response.header(name), Some(value), "{case}");
    }
    // Nix from 2.35 on waits for as long as that says, at each of five attempts.
    assert_eq!(response.header("retry-after"), None, "{case}");
    assert_eq!(response.header("content-encoding"), None, "{case}");
}

#[test]
fn an_invalid_handshake_is_a_502_and_the_log_has_the_reason() {
    let versioned = |version| Wire::new().number(MAGIC).number(version);
    let to_the_release = || versioned(0x126).number(0);
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let allowed = format!("user \"{}\" is in allowed-users", String::from_utf8(user).unwrap().trim());
    for (case, greeting, reason) in [
        ("closes at once", Reply::then_disconnect([]), &*allowed),
        ("speaks HTTP", Reply::then_disconnect("HTTP/1.1 400 Bad Request\r\n\r\n"), "is not nix-daemon"),
        ("speaks HTTP and waits", Wire::new().raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").into(), "is not nix-daemon"),
        ("garbage", Reply::then_disconnect([0xa5; 4096]), "is not nix-daemon"),
        ("guix-daemon", versioned(0x163).into(), "guix"),
        ("too old", versioned(0x114).into(), "older than 1.21"),
        ("another major version", versioned(0x200).into(), "unknown protocol version"),
        ("closes in the middle", Reply::then_disconnect(greeting().done()[..20].to_vec()), "closed the connection"),
        ("features without end", versioned(0x126).number(HUGE).into(), "malformed daemon features"),
        ("a release without end", to_the_release().number(HUGE).into(), "malformed daemon release"),
        ("padding", to_the_release().number(1).raw(b"2......!").into(), "padding is not zero"),
        ("no such trust", to_the_release().string("2.34").number(9).into(), "malformed trust"),
        ("an unknown frame", to_the_release().string("2.34").number(0).number(77).into(), "unknown tag 0x4d"),
        ("refuses", to_the_release().string("2.34").number(0).error("no store today").into(), "no store today"),
    ] {
        let daemon = ScriptedDaemon::start(Script::greeting(greeting));
        let harmonia = Harmonia::start(&daemon.config());
        let item = StoreItem::file(b"behind a bad greeting");
        for url in [item.narinfo_url(), item.nar_url()] {
            is_unavailable(&harmonia.http().get(&url), case);
        }
        let id = harmonia.http().get(&item.narinfo_url()).header("x-request-id").map(str::to_owned);
        assert!(id.is_some_and(|id| id.starts_with(|c: char| c.is_ascii_hexdigit())));
        harmonia.wait_for_log(reason);
        assert_eq!(harmonia.http().get("/nix-cache-info").status, 200, "{case}");
        daemon.play(item.script());
        assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200, "after: {case}");
    }
}

/// Returns malformed replies to queries about a path.
fn malformed(item: &StoreItem) -> Vec<(&'static str, Query, Reply)> {
    let path = || Query::PathFromHashPart(String::new());
    let info = || Query::PathInfo(String::new());
    let wrong = |change: fn(&mut StoreItem)| {
        let mut wrong = item.clone();
        change(&mut wrong);
        Reply::from(wrong.info_reply())
    };
    let other = item.path.replace("0123", "3210");
    let last = || Wire::new().number(LAST);
    let valid = || last().number(1);
    vec![
        ("a path without end", path(), last().number(HUGE).into()),
        ("no path at all", path(), last().string("hello").into()),
        ("a path of another store", path(), last().string(item.path.replace("/nix", "/gnu")).into()),
        ("another path", path(), last().string(&other).into()),
        ("padding", path(), last().number(1).raw(b"/......!").into()),
        ("an unknown frame", path(), Wire::new().number(0xdead).into()),
        ("a request for data", path(), Wire::new().number(0x6461_7461).number(8).into()),
        ("an error", path(), Wire::new().error("the secret of the daemon").into()),
        ("an error without end", path(), Wire::new().number(0x6378_7470).number(HUGE).into()),
        ("a log line without end", path(), Wire::new().number(NEXT).number(HUGE).into()),
        ("an error", info(), Wire::new().error("the secret of the daemon").into()),
        ("a deriver without end", info(), valid().number(HUGE).into()),
        ("a deriver that is no path", info(), wrong(|it| it.deriver = "unknown".into())),
        ("no hash", info(), wrong(|it| it.nar_hash = "?".into())),
        ("a short hash", info(), wrong(|it| it.nar_hash.truncate(62))),
        ("references without end", info(), valid().string("").string(&item.nar_hash).number(HUGE).into()),
        ("a reference that is no path", info(), wrong(|it| it.references = vec!["x".into()])),
        ("a size of 0", info(), wrong(|it| it.nar_size = 0)),
    ]
}

#[test]
fn an_invalid_reply_is_a_502_and_the_server_keeps_running() {
    let item = StoreItem::file(b"behind bad answers");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config_without_cache());
    for (case, to, answer) in malformed(&item) {
        let bytes = answer.bytes;
        let good = item.clone();
        daemon.play(Script::replying(move |query| {
            let is_meant = std::mem::discriminant(query) == std::mem::discriminant(&to);
            if is_meant { Wire::new().raw(&bytes).into() } else { good.reply(query) }
        }));
        for url in [item.narinfo_url(), item.nar_url()] {
            is_unavailable(&harmonia.http().get(&url), case);
        }
        daemon.play(item.script());
        assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200, "after: {case}");
    }
}

#[test]
fn error_messages_of_the_daemon_are_logged_and_not_sent_to_clients() {
    let daemon = ScriptedDaemon::start(Script::replying(|_| Wire::new().error("database\nis locked").into()));
    let harmonia = Harmonia::start(&daemon.config());
    let url = StoreItem::file(b"").narinfo_url();
    let response = harmonia.http().get(&url);
    is_unavailable(&response, "an error");
    let line = harmonia.wait_for_log("database");
    assert!(line.contains("is locked") && line.contains(&url), "{line}");
    assert!(line.contains(response.header("x-request-id").unwrap()), "{line}");
}

#[test]
fn a_reply_truncated_at_any_byte_is_a_502() {
    let mut item = StoreItem::file(b"cut short");
    item.references = vec![item.path.clone()];
    item.signatures = vec!["key:AAAA".to_owned()];
    let cut = Arc::new(AtomicUsize::new(0));
    let replies = [
        (Query::PathFromHashPart(String::new()), item.path_reply()),
        (Query::PathInfo(String::new()), item.info_reply()),
    ];
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config_without_cache());
    for (to, reply) in replies {
        let whole = reply.done();
        let (length, good, at) = (whole.len(), item.clone(), Arc::clone(&cut));
        daemon.play(Script::replying(move |query| {
            let is_meant = std::mem::discriminant(query) == std::mem::discriminant(&to);
            let cut = at.load(Ordering::Relaxed);
            if is_meant { Reply::then_disconnect(&whole[..cut]) } else { good.reply(query) }
        }));
        for at in 0..length {
            cut.store(at, Ordering::Relaxed);
            is_unavailable(&harmonia.http().get(&item.narinfo_url()), &format!("{at} of {length} bytes"));
        }
        cut.store(length, Ordering::Relaxed);
        assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200);
    }
}

#[test]
fn only_a_path_that_the_daemon_calls_invalid_is_a_404() {
    let item = StoreItem::file(b"not valid any more");
    let gone = item.clone();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
        Query::PathInfo(_) => Wire::new().number(LAST).number(0).into(),
        _ => gone.reply(query),
    }));
    let harmonia = Harmonia::start(&daemon.config());
    for url in [item.narinfo_url(), item.nar_url(), "/11111111111111111111111111111111.narinfo".to_owned()] {
        let response = harmonia.http().get(&url);
        assert_eq!((response.status, response.header("cache-control")), (404, Some("no-store")), "{url}");
        assert!(!response.text().contains("/nix"), "{url}");
    }
    assert!(daemon.seen().queries.iter().all(|query| !matches!(query, Query::Nar(_))));
}

#[test]
fn a_daemon_that_logs_much_is_listened_to_up_to_a_bound() {
    let item = StoreItem::file(b"behind much talk");
    let line = Wire::new().number(NEXT).string("copying path '/nix/store/x'...").done();
    let endless = Wire::new().number(NEXT).string(vec![b'x'; 1 << 20]).done();
    for (spam, status) in [(line.repeat(20_000), 200), (endless.repeat(65), 502)] {
        let good = item.clone();
        let daemon = ScriptedDaemon::start(Script::replying(move |query| {
            let Reply { bytes, .. } = good.reply(query);
            Wire::new().raw(&spam).raw(&bytes).into()
        }));
        let harmonia = Harmonia::start(&daemon.config());
        assert_eq!(harmonia.http().get(&item.narinfo_url()).status, status);
    }
}

#[test]
fn a_reply_with_more_behind_it_is_used_but_its_connection_is_not() {
    let item = StoreItem::file(b"and more");
    let good = item.clone();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        Wire::new().raw(&good.reply(query).bytes).number(LAST).into()
    }));
    let harmonia = Harmonia::start(&daemon.config_without_cache());
    for _ in 0..3 {
        assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200);
    }
    // One query each, and the handshake at the start, whose connection is used first.
    assert!(daemon.seen().connections >= 6, "{}", daemon.seen().connections);
}

#[test]
fn connections_that_died_while_they_were_idle_cost_no_request() {
    let item = StoreItem::file(b"after a restart");
    let good = item.clone();
    let hangs_up = Arc::new(AtomicBool::new(false));
    let hanging = Arc::clone(&hangs_up);
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        // The end is found when the next query is asked, not before.
        if hanging.swap(false, Ordering::Relaxed) { Reply::then_disconnect([]) } else { good.reply(query) }
    }));
    let harmonia = Harmonia::start(&daemon.config_without_cache());
    for url in [item.narinfo_url(), item.nar_url(), item.nar_url()] {
        assert_eq!(harmonia.http().get(&url).status, 200);
        hangs_up.store(true, Ordering::Relaxed);
        assert_eq!(harmonia.http().get(&url).status, 200, "{url}");
        assert!(!hangs_up.load(Ordering::Relaxed));
    }

    // Closed after each reply: seen before the next query.
    let good = item.clone();
    daemon.play(Script::replying(move |query| Reply::then_disconnect(good.reply(query).bytes)));
    for _ in 0..5 {
        assert_eq!(harmonia.http().get(&item.nar_url()).body, item.nar);
    }
}

#[test]
fn an_unanswered_query_blocks_no_other() {
    let item = StoreItem::file(b"meanwhile");
    let good = item.clone();
    let (release, released) = mpsc::channel::<()>();
    let (block, blocked) = mpsc::channel();
    let first = Mutex::new(Some((block, released)));
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        let first = first.lock().unwrap().take();
        if let Some((block, released)) = first {
            block.send(()).unwrap();
            released.recv().unwrap_err();
        }
        good.reply(query)
    }));
    let harmonia = Harmonia::start(&daemon.config());
    let (http, url) = (harmonia.http(), item.narinfo_url());
    thread::scope(|scope| {
        let stuck = scope.spawn(|| http.get(&url).status);
        blocked.recv().unwrap();
        // A query about the same path would wait for the same reply.
        assert_eq!(http.get("/11111111111111111111111111111111.narinfo").status, 404);
        assert!(!stuck.is_finished());
        drop(release);
        assert_eq!(stuck.join().unwrap(), 200);
    });
}

#[test]
fn a_missing_socket_is_a_502_in_bounded_time_and_is_used_once_it_appears() {
    let item = StoreItem::file(b"late");
    let socket = scratch::fresh_dir().join("socket");
    let harmonia = Harmonia::start(&format!("daemon_socket = \"{}\"\n", socket.display()));
    let started = Instant::now();
    is_unavailable(&harmonia.http().get(&item.narinfo_url()), "no socket");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let line = harmonia.wait_for_log("cannot reach nix-daemon");
    assert!(line.contains(&socket.display().to_string()), "{line}");
    harmonia.wait_for_log("help: check that nix-daemon is running");

    // During an outage each request makes one attempt, so this one comes after the daemon listens.
    let _daemon = ScriptedDaemon::start_at(socket, item.script());
    assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200);
}
