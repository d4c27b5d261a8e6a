//! `/debuginfo/…`: statement 60 of the conformance list, with stores that change, and what is no debug info.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use harmonia_protocol::nar::{Name, Node};
use serde_json::{Value, json};

use crate::support::content::hash_part;
use crate::support::daemon::Daemon;
use crate::support::http::{Http, Response};
use crate::support::release::Release;
use crate::support::scratch;
use crate::support::scripted_daemon::{Question, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const ID: &str = "00d3adbeef00d3adbeef00d3adbeef00d3adbeef";
const OTHER: &str = "ab12345678ab12345678ab12345678ab12345678";

fn url(id: &str) -> String {
    format!("/debuginfo/{id}")
}

fn member(id: &str) -> String {
    format!("lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..])
}

fn parsed(response: &Response) -> Value {
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    serde_json::from_slice(&response.body).unwrap()
}

/// Adds a path with the debug info of this build to the daemon's store.
fn add(daemon: &Daemon, name: &str, id: &str, contents: &str) -> String {
    let source = format!("/nix/tmp/{name}");
    let file = daemon.on_host(&source).join(member(id));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, contents).unwrap();
    daemon.run(&["nix-store", "--add", &source]).text()
}

fn before(daemon: &Daemon) -> Harmonia {
    let (socket, store) = (daemon.socket(), daemon.on_host("/nix/store"));
    Harmonia::start(&format!(
        "daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\ngc_lease = 0\n",
        socket.display(),
        store.display()
    ))
}

/// The file of a NAR, reached as those who read the answer do.
fn fetched(http: Http, answer: &Value) -> Vec<u8> {
    let archive = answer["archive"].as_str().unwrap().strip_prefix("..").expect("not relative to /debuginfo/");
    assert!(archive.starts_with("/nar/") && archive.split_once('.').unwrap().1 == "nar", "{archive}");
    let nar = http.get(archive);
    assert_eq!((nar.status, nar.header("content-encoding")), (200, None));
    let root = Node::parse(&nar.body).unwrap();
    let mut node = &root;
    for name in answer["member"].as_str().unwrap().split('/') {
        let Node::Directory(entries) = node else { panic!("{name} is in no directory") };
        node = entries.get(&Name::new(name.as_bytes()).unwrap()).expect("the member is not in the archive");
    }
    let Node::Regular { contents, .. } = node else { panic!("the member is no file") };
    contents.to_vec()
}

#[test]
fn s60_both_urls_lead_to_the_file_in_an_uncompressed_nar_for_as_long_as_its_path_is_valid() {
    let daemon = Daemon::start(Release::Nix2_34);
    let first = add(&daemon, "first-debug", ID, "debug info of the first");
    let harmonia = before(&daemon);
    let http = harmonia.http();
    let answer = http.get(&url(ID));
    assert_eq!(answer.body, http.get(&format!("/debuginfo/{ID}.debug")).body);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
    let answer = parsed(&answer);
    assert_eq!((answer.as_object().unwrap().len(), &answer["member"]), (2, &json!(member(ID))));
    assert!(answer["archive"].as_str().unwrap().contains(hash_part(&first)));
    assert_eq!(fetched(http, &answer), b"debug info of the first");
    let head = http.head(&url(ID));
    assert_eq!((head.status, head.body.len()), (200, 0));

    // What comes to the store later is found by the next question.
    let miss = http.get(&url(OTHER));
    assert_eq!((miss.status, miss.header("cache-control")), (404, Some("no-store")));
    let second = add(&daemon, "second-debug", OTHER, "debug info of the second");
    assert_eq!(fetched(http, &parsed(&http.get(&url(OTHER)))), b"debug info of the second");

    // What goes is not found any more, but where it is in another path.
    let _ = daemon.run(&["nix-store", "--delete", &second]).stdout();
    assert_eq!(http.get(&url(OTHER)).status, 404);
    let again = add(&daemon, "again-debug", ID, "debug info of the first");
    assert_eq!(http.get(&url(ID)).status, 200);
    let _ = daemon.run(&["nix-store", "--delete", &first]).stdout();
    let answer = parsed(&http.get(&url(ID)));
    assert!(answer["archive"].as_str().unwrap().contains(hash_part(&again)));
    assert_eq!(fetched(http, &answer), b"debug info of the first");
}

/// A store with one path that a scripted daemon calls valid.
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

    /// Where the debug info of a build belongs, its directory made.
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
fn malformed_ids_are_404_without_a_word_to_the_daemon() {
    let store = Scripted::new();
    for id in ["", "..", "00", &ID[1..], &ID.to_uppercase(), &"00".repeat(65), "..%2fnix-cache-info", "x/../y"] {
        let response = store.harmonia.http().get(&url(id));
        assert_eq!((response.status, response.header("cache-control")), (404, Some("no-store")), "{id}");
    }
    assert_eq!(store.daemon.seen().asked, []);
}

#[test]
fn where_the_store_is_not_visible_there_is_no_debug_info_and_no_question() {
    let store = Scripted::new();
    fs::remove_dir(&store.real).unwrap();
    assert_eq!(store.status(ID), 404);
    assert_eq!(store.daemon.seen().asked, []);
}

#[test]
fn a_daemon_that_does_not_tell_its_paths_makes_a_miss_502_and_no_404() {
    let item = StoreItem::file(b"a");
    let failing = item.clone();
    let store = Scripted::with(
        Script::answering(move |question| match question {
            Question::AllPaths => Wire::new().number(LAST).error("database is locked").into(),
            _ => failing.answer(question),
        }),
        item,
    );
    fs::write(store.place(&store.item.path, ID), "").unwrap();
    let response = store.harmonia.http().get(&url(ID));
    assert_eq!((response.status, response.text().split(" (").next()), (502, Some("the nix daemon answers wrongly")));
    store.daemon.play(store.item.script());
    assert_eq!((store.status(ID), store.status(OTHER)), (200, 404));
}

#[test]
fn a_scan_that_takes_long_holds_up_no_other_request() {
    let item = StoreItem::file(b"a");
    let (gate, slow) = (Arc::new(Mutex::new(())), item.clone());
    let entrance = Arc::clone(&gate);
    let shut = gate.lock().unwrap();
    let store = Scripted::with(
        Script::answering(move |question| {
            if *question == Question::AllPaths {
                drop(entrance.lock());
            }
            slow.answer(question)
        }),
        item,
    );
    fs::write(store.place(&store.item.path, ID), "").unwrap();
    let http = store.harmonia.http();
    let asking = thread::spawn(move || http.get(&url(ID)).status);
    store.daemon.wait_until(|seen| seen.asked.contains(&Question::AllPaths));
    assert_eq!(http.get(&store.item.narinfo_url()).status, 200);
    assert!(!asking.is_finished());
    drop(shut);
    assert_eq!(asking.join().unwrap(), 200);
}

#[test]
fn a_flood_of_misses_in_a_store_at_rest_is_one_scan() {
    let store = Scripted::new();
    // The first scan cannot tell a change of this moment from the next; one of them can.
    let scans = || store.daemon.seen().asked.iter().filter(|asked| **asked == Question::AllPaths).count();
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
