//! `/serve/<nar hash>/`: the files of a path, found by NAR hash among the cached path infos.

use std::fs;
use std::path::PathBuf;

use crate::support::http::Response;
use crate::support::keys;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::Wire;

/// Scripted daemon with one path, a file, in a store directory that the server reads.
struct Scripted {
    item: StoreItem,
    real: PathBuf,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
}

impl Scripted {
    fn new(script: impl FnOnce(&StoreItem) -> Script) -> Self {
        let (item, real) = (StoreItem::file(b"a"), scratch::fresh_dir());
        let daemon = ScriptedDaemon::start(script(&item));
        let config = format!("{}real_nix_store = \"{}\"\n", daemon.config(), real.display());
        let harmonia = Harmonia::start(&config);
        let store = Self { item, real, daemon, harmonia };
        store.write("a");
        store
    }

    /// Replaces the path with a new file.
    fn write(&self, contents: &str) {
        let new = self.real.join("new");
        fs::write(&new, contents).unwrap();
        fs::rename(new, self.real.join(self.item.path.strip_prefix("/nix/store/").unwrap())).unwrap();
    }

    fn get(&self, item: &StoreItem) -> Response {
        self.harmonia.http().get(&format!("/serve/{}", item.nar_hash_in_nix32()))
    }

    fn learn(&self, item: &StoreItem) {
        assert_eq!(self.harmonia.http().get(&item.narinfo_url()).status, 200);
    }
}

#[test]
fn a_nar_hash_of_no_known_path_is_a_404_without_a_query() {
    let store = Scripted::new(StoreItem::script);
    let miss = store.get(&store.item);
    assert_eq!((miss.status, miss.header("cache-control")), (404, Some("no-store")));
    assert_eq!(store.daemon.seen().queries, []);
    store.learn(&store.item);
    assert_eq!((store.get(&store.item).status, store.get(&store.item).text()), (200, "a"));
    assert!(!store.daemon.seen().queries.contains(&Query::AllPaths));
}

#[test]
fn a_path_that_has_another_nar_by_now_has_its_files_under_that_alone() {
    let store = Scripted::new(StoreItem::script);
    store.learn(&store.item);
    let mut other = StoreItem::file(b"another");
    other.path = store.item.path.clone();
    store.daemon.play(other.script());
    store.write("another");
    assert_eq!(store.get(&store.item).status, 404);
    assert_eq!(store.get(&other).text(), "another");
}

#[test]
fn a_daemon_that_errs_makes_it_503_and_no_404() {
    let store = Scripted::new(StoreItem::script);
    store.learn(&store.item);
    // What is known does not hold any more.
    store.write("replaced");
    store.daemon.play(Script::replying(|_| Wire::new().error("database is locked").into()));
    assert!((500..600).contains(&store.get(&store.item).status));
    store.daemon.play(store.item.script());
    assert_eq!(store.get(&store.item).status, 200);
}

#[test]
fn paths_that_are_not_served_hide_none_that_is() {
    let path = |n: usize| format!("/nix/store/{n:032}-untrusted");
    let items: Vec<_> = (0..100).map(|n| StoreItem { path: path(n), ..StoreItem::file(b"a") }).collect();
    // One of them was built here.
    let built = items[50].clone();
    let real = scratch::fresh_dir();
    for item in &items {
        fs::write(real.join(item.path.strip_prefix("/nix/store/").unwrap()), "a").unwrap();
    }
    let all = items.clone();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        let of = |path: &str| all.iter().find(|item| item.path == *path || item.hash_part() == path).unwrap();
        match query {
            Query::PathInfo(about) if *about == built.path => built.info_reply_of_built().into(),
            Query::PathFromHashPart(about) | Query::PathInfo(about) => of(about).reply(query),
            _ => panic!("asked {query:?}"),
        }
    }));
    let harmonia = Harmonia::start(&format!(
        "{}real_nix_store = {real:?}\nsign_key_paths = [{:?}]\nsign = \"trusted\"\nserve_untrusted = false\n",
        daemon.config(),
        keys::OURS.secret
    ));
    let http = harmonia.http();
    let url = format!("/serve/{}", items[0].nar_hash_in_nix32());
    for (number, item) in items.iter().enumerate() {
        assert_eq!(http.get(&item.narinfo_url()).status, if number == 50 { 200 } else { 404 });
    }
    assert_eq!(http.get(&url).text(), "a");
}
