//! `/debuginfo/…`, in stores that change, and for files that are not debug info.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::debug_info::{ID, OTHER, member, url};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// Store with one path that is valid for a scripted daemon.
struct Scripted {
    real: PathBuf,
    item: StoreItem,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
}

impl Scripted {
    fn new() -> Self {
        let item = StoreItem::file(b"a");
        Self::with(item.script(), item)
    }

    fn with(script: Script, item: StoreItem) -> Self {
        let real = scratch::fresh_dir();
        let daemon = ScriptedDaemon::start(script);
        let harmonia = Harmonia::start(&format!("{}real_nix_store = \"{}\"\n", daemon.config(), real.display()));
        Self { real, item, daemon, harmonia }
    }

    /// Returns the file for the debug info of a build, and creates its directory.
    fn place(&self, path: &str, id: &str) -> PathBuf {
        let place = self.real.join(path.strip_prefix("/nix/store/").unwrap()).join(member(id));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    }

    fn status(&self, id: &str) -> u16 {
        self.harmonia.http().get(&url(id)).status
    }
}

#[test]
fn links_and_what_is_not_valid_are_no_debug_info() {
    let store = Scripted::new();
    let path = store.item.path.clone();
    fs::write(store.place(&path, ID), "").unwrap();
    let elsewhere = scratch::fresh_dir().join("elsewhere");
    fs::write(&elsewhere, "secret").unwrap();
    symlink(&elsewhere, store.place(&path, OTHER)).unwrap();
    fs::write(store.place("/nix/store/22222222222222222222222222222222-not-valid", "222222"), "").unwrap();
    let statuses = [ID, OTHER, "222222", "333333"].map(|id| store.status(id));
    assert_eq!(statuses, [200, 404, 404, 404]);
    // A directory that is elsewhere as a whole.
    let debug = store.real.join(path.strip_prefix("/nix/store/").unwrap()).join("lib/debug");
    let moved = scratch::fresh_dir().join("debug");
    fs::rename(&debug, &moved).unwrap();
    symlink(&moved, &debug).unwrap();
    assert_eq!(store.status(ID), 404);
}

#[test]
fn malformed_build_ids_are_a_404_without_a_query() {
    let store = Scripted::new();
    for id in ["", "..", "00", &ID[1..], &ID.to_uppercase(), &"00".repeat(65), "..%2fnix-cache-info", "x/../y"] {
        let response = store.harmonia.http().get(&url(id));
        assert_eq!((response.status, response.header("cache-control")), (404, Some("no-store")), "{id}");
    }
    assert_eq!(store.daemon.seen().queries, []);
}

#[test]
fn an_invisible_store_has_no_debug_info_and_is_not_queried() {
    let store = Scripted::new();
    fs::remove_dir(&store.real).unwrap();
    assert_eq!(store.status(ID), 404);
    assert_eq!(store.daemon.seen().queries, []);
}

#[test]
fn a_daemon_that_does_not_tell_its_paths_makes_a_miss_502_and_no_404() {
    let item = StoreItem::file(b"a");
    let failing = item.clone();
    let store = Scripted::with(
        Script::replying(move |query| match query {
            Query::AllPaths => Wire::new().number(LAST).error("database is locked").into(),
            _ => failing.reply(query),
        }),
        item,
    );
    fs::write(store.place(&store.item.path, ID), "").unwrap();
    let response = store.harmonia.http().get(&url(ID));
    assert_eq!(
        (response.status, response.text().split(" (").next()),
        (502, Some("nix-daemon sent an error or invalid data"))
    );
    store.daemon.play(store.item.script());
    assert_eq!((store.status(ID), store.status(OTHER)), (200, 404));
}

#[test]
fn a_long_scan_blocks_no_other_request() {
    let item = StoreItem::file(b"a");
    let (gate, slow) = (Arc::new(Mutex::new(())), item.clone());
    let entrance = Arc::clone(&gate);
    let shut = gate.lock().unwrap();
    let store = Scripted::with(
        Script::replying(move |query| {
            if *query == Query::AllPaths {
                drop(entrance.lock());
            }
            slow.reply(query)
        }),
        item,
    );
    fs::write(store.place(&store.item.path, ID), "").unwrap();
    let http = store.harmonia.http();
    let asking = thread::spawn(move || http.get(&url(ID)).status);
    store.daemon.wait_until(|seen| seen.queries.contains(&Query::AllPaths));
    assert_eq!(http.get(&store.item.narinfo_url()).status, 200);
    assert!(!asking.is_finished());
    drop(shut);
    assert_eq!(asking.join().unwrap(), 200);
}

#[test]
fn a_flood_of_misses_in_a_store_at_rest_is_one_scan() {
    let store = Scripted::new();
    // The first scan cannot tell a change of this moment from the next; one of them can.
    let scans = || store.daemon.seen().queries.iter().filter(|asked| **asked == Query::AllPaths).count();
    let mut last = 0;
    loop {
        assert_eq!(store.status(ID), 404);
        if scans() == last {
            break;
        }
        last = scans();
        assert!(last < 10, "it scans for every miss");
    }
    for n in 0..100 {
        assert_eq!(store.status(&format!("{n:040x}")), 404);
    }
    assert_eq!(scans(), last);
}
