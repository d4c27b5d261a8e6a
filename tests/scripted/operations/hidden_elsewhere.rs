//! `harmonia hide`: the places that know more of a path than its narinfo: the NAR cache, lists, debug info, realisations.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::thread;

use crate::operations::hidden::{chain, seen, text};
use crate::support::debug_info::{ID, OTHER, member, url};
use crate::support::nar_cache::nar_url_of;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// Replies of a daemon that has the chain and one realisation, of its first path.
fn reply(query: &Query) -> Reply {
    let items = chain();
    let found = StoreItem::reply_among(&items, query);
    found.unwrap_or_else(|| match query {
        Query::AllPaths => Wire::new().number(LAST).strings(&items.map(|item| item.path)).into(),
        Query::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
        Query::Realisation(id) if *id == output() => {
            let path = items[0].path.strip_prefix("/nix/store/").unwrap();
            let json = format!(r#"{{"dependentRealisations":{{}},"id":"{id}","outPath":"{path}","signatures":[]}}"#);
            Wire::new().number(LAST).strings(&[json]).into()
        }
        Query::PathInfo(_) | Query::Realisation(_) => Wire::new().number(LAST).number(0).into(),
        other => panic!("unexpected {other:?}"),
    })
}

/// The output of a derivation whose realisation is the first path.
fn output() -> String {
    format!("sha256:{}!out", "7b".repeat(32))
}

fn server(config: &str) -> (ScriptedDaemon, Harmonia, PathBuf) {
    let daemon = ScriptedDaemon::start(Script::replying(reply));
    let (socket, state) = (scratch::fresh_dir().join("admin.sock"), scratch::fresh_dir());
    let config = format!(
        "{}admin_socket = \"{}\"\nstate_dir = \"{}\"\n{config}",
        daemon.config(),
        socket.display(),
        state.display()
    );
    (daemon, Harmonia::start(&config), socket)
}

#[test]
fn a_compressed_nar_that_is_warm_is_neither_sent_nor_resumed_while_its_path_is_hidden() {
    let (_daemon, harmonia, socket) = server(&nar_cache_on_demand());
    let http = harmonia.http();
    let [first, _, third] = chain();
    let absent = StoreItem { path: format!("/nix/store/{:032}-item", 9), ..first.clone() };
    let nars = [&first, &third].map(|item| nar_url_of(http, &item.narinfo_url()));
    assert!(nars.iter().all(|nar| nar.ends_with(".nar.zst")), "{nars:?}");
    let by_nar_hash = |item: &StoreItem| format!("/lookup?q=sha256:{}", item.nar_hash_in_nix32());
    assert_eq!(http.get(&by_nar_hash(&first)).status, 302);
    let etags = [0, 1].map(|nth| http.get(&nars[nth]).header("etag").unwrap().to_owned());
    text(&socket, &["hide", &first.path, "--referrers"]);
    for ((item, nar), etag) in [&first, &third].into_iter().zip(&nars).zip(&etags) {
        let of_absent = nar.replace(item.hash_part(), absent.hash_part());
        for headers in [&[][..], &[("Range", "bytes=1-")], &[("If-None-Match", etag)], &[("If-None-Match", "*")]] {
            let (hidden, missing) = (http.get_with(nar, headers), http.get_with(&of_absent, headers));
            assert_eq!(seen(&hidden), seen(&missing), "{nar} {headers:?}");
            assert_eq!(hidden.status, 404, "{nar} {headers:?}");
        }
        assert_eq!(http.head(nar).status, 404);
        assert_eq!(http.get(&by_nar_hash(item)).status, 404, "{nar}");
    }
    text(&socket, &["unhide", &first.path]);
    assert_eq!(nars.map(|nar| http.get(&nar).status), [200; 2]);
}

#[test]
fn hidden_paths_are_not_in_the_list_of_paths() {
    let (_daemon, harmonia, socket) = server("browse = true\n");
    let items = chain();
    let listed = || {
        let html = harmonia.http().get("/browse?q=item").text().to_owned();
        [0, 1, 2].map(|nth: usize| html.contains(items[nth].hash_part()))
    };
    assert_eq!(listed(), [true; 3]);
    text(&socket, &["hide", &items[1].path]);
    assert_eq!(listed(), [true, false, true]);
    text(&socket, &["hide", &items[1].path, "--referrers"]);
    assert_eq!(listed(), [true, false, false]);
    text(&socket, &["unhide", &items[1].path]);
    assert_eq!(listed(), [true; 3]);
}

#[test]
fn numbers_of_paths_do_not_tell_how_many_are_hidden() {
    let (_daemon, harmonia, socket) = server("browse = true\n");
    let page = |url: &str| harmonia.http().get(url).text().to_owned();
    let numbers = || [page("/").contains("3, counted"), page("/browse").contains("has 3 valid paths")];
    assert_eq!(numbers(), [true; 2]);
    text(&socket, &["hide", &chain()[1].path]);
    assert_eq!(numbers(), [false; 2]);
    assert!(!page("/").contains("counted") && !page("/browse").contains("valid paths"));
    text(&socket, &["unhide", &chain()[1].path]);
    assert_eq!(numbers(), [true; 2]);
}

#[test]
fn a_path_is_hidden_before_nix_daemon_says_anything_about_it() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        if is_about_stuck(query) {
            let _ = held.lock().unwrap().recv();
        }
        Wire::new().number(LAST).number(0).into()
    }));
    let (socket, state) = (scratch::fresh_dir().join("admin.sock"), scratch::fresh_dir());
    let config = format!("{}admin_socket = {socket:?}\nstate_dir = {state:?}\n", daemon.config());
    let _harmonia = Harmonia::start(&config);
    let hiding = {
        let socket = socket.clone();
        thread::spawn(move || text(&socket, &["hide", STUCK]))
    };
    daemon.wait_until(|seen| seen.queries.iter().any(is_about_stuck));
    assert!(text(&socket, &["hidden"]).starts_with(STUCK));
    assert!(state.join("hidden").exists());
    drop(release);
    assert!(hiding.join().unwrap().contains("does not call it valid now"));
}

/// Hash part of a path about which a nix-daemon is slow to reply.
const STUCK: &str = "00000000000000000000000000000006";

fn is_about_stuck(query: &Query) -> bool {
    match query {
        Query::PathInfo(text) | Query::PathFromHashPart(text) => text.contains(STUCK),
        _ => false,
    }
}

#[test]
fn a_closure_that_takes_long_to_look_through_holds_up_no_other_client() {
    let [first, second, third] = chain();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let slow = StoreItem {
        path: format!("/nix/store/{:032}-slow", 5),
        references: vec![format!("/nix/store/{STUCK}-stuck")],
        ..StoreItem::file(b"slow")
    };
    let items = [first.clone(), second.clone(), third.clone(), slow.clone()];
    let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
        query if is_about_stuck(query) => {
            let _ = held.lock().unwrap().recv();
            // Of both queries: there is none.
            Wire::new().number(LAST).number(0).into()
        }
        query => StoreItem::reply_among(&items, query).unwrap(),
    }));
    let (socket, state) = (scratch::fresh_dir().join("admin.sock"), scratch::fresh_dir());
    let harmonia = Harmonia::start(&format!("{}admin_socket = {socket:?}\nstate_dir = {state:?}\n", daemon.config()));
    text(&socket, &["hide", &first.path, "--referrers"]);
    let mut stuck = harmonia.http().connect().unwrap();
    stuck.send(format!("GET {} HTTP/1.1\r\nHost: c\r\n\r\n", slow.narinfo_url()).as_bytes()).unwrap();
    daemon.wait_until(|seen| seen.queries.iter().any(is_about_stuck));
    let other = harmonia.http().from([127, 0, 0, 2]);
    assert_eq!([&first, &second, &third].map(|item| other.get(&item.narinfo_url()).status), [404; 3]);
    // Known by now.
    assert_eq!(harmonia.http().get(&third.narinfo_url()).status, 404);
    drop(release);
    assert_eq!(stuck.receive(false).unwrap().status, 200);
}

#[test]
fn debug_info_is_that_of_another_path_or_none_while_its_path_is_hidden() {
    let real = scratch::fresh_dir();
    let place = |item: &StoreItem, id: &str| {
        let file = real.join(item.path.strip_prefix("/nix/store/").unwrap()).join(member(id));
        fs::create_dir_all(Path::new(&file).parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    };
    let [first, _, third] = chain();
    place(&first, ID);
    place(&third, ID);
    place(&first, OTHER);
    let (_daemon, harmonia, socket) = server(&format!("real_nix_store = {real:?}\n"));
    let http = harmonia.http();
    assert_eq!([ID, OTHER].map(|id| http.get(&url(id)).status), [200; 2]);
    text(&socket, &["hide", &first.path]);
    let of_third = http.get(&url(ID));
    assert!(of_third.status == 200 && of_third.text().contains(third.hash_part()), "{}", of_third.text());
    let unknown = http.get(&url(&"22".repeat(20)));
    assert_eq!(unknown.status, 404);
    assert_eq!(seen(&http.get(&url(OTHER))), seen(&unknown));
    text(&socket, &["hide", &first.path, "--referrers"]);
    assert_eq!([ID, OTHER].map(|id| seen(&http.get(&url(id)))), [seen(&unknown), seen(&unknown)]);
    text(&socket, &["unhide", &first.path]);
    assert_eq!(http.get(&url(OTHER)).status, 200);
}

#[test]
fn a_realisation_is_unknown_while_its_path_is_hidden() {
    let (_daemon, harmonia, socket) = server("");
    let realisation = |output: &str| harmonia.http().get(&format!("/realisations/{output}.doi"));
    let [first, ..] = chain();
    let shown = realisation(&output());
    assert!(shown.status == 200 && shown.text().contains(first.hash_part()), "{}", shown.text());
    text(&socket, &["hide", &first.path]);
    let (hidden, unknown) = (realisation(&output()), realisation(&output().replace("7b", "7c")));
    assert_eq!((hidden.status, seen(&hidden)), (404, seen(&unknown)));
    text(&socket, &["unhide", &first.path]);
    assert_eq!(seen(&realisation(&output())), seen(&shown));
}

#[test]
fn a_hidden_path_that_is_pushed_again_stays_hidden() {
    let (_daemon, harmonia, socket) = server("access.anonymous = [\"read\", \"push\"]\npush.keep = \"1d\"\n");
    let [first, ..] = chain();
    text(&socket, &["hide", &first.path]);
    let (path, size, hash) = (&first.path, first.nar_size, first.nar_hash_in_nix32());
    let narinfo = format!(
        "StorePath: {path}\nURL: nar/{hash}.nar\nCompression: none\nNarHash: sha256:{hash}\nNarSize: {size}\nReferences: \n"
    );
    let head = format!("PUT {} HTTP/1.1\r\nHost: c\r\nContent-Length: {}\r\n\r\n", first.narinfo_url(), narinfo.len());
    let pushed = harmonia.http().request(format!("{head}{narinfo}").as_bytes()).unwrap();
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    for url in [first.narinfo_url(), first.nar_url()] {
        assert_eq!(harmonia.http().get(&url).status, 404, "{url}");
    }
    text(&socket, &["unhide", &first.path]);
    assert_eq!(harmonia.http().get(&first.narinfo_url()).status, 200);
}
