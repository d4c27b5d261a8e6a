//! `/serve/<nar hash>/`: the same files as by the path's own hash part, found among the paths that are known.

use std::fs;
use std::path::PathBuf;

use crate::support::content::hash_part;
use crate::support::daemon::Daemon;
use crate::support::http::{Http, Response};
use crate::support::keys;
use crate::support::release::Release;
use crate::support::scratch;
use crate::support::scripted_daemon::{Question, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::Wire;

/// The NAR of nothing.
const UNKNOWN: &str = "0000000000000000000000000000000000000000000000000000";

/// A server before a real daemon whose files it sees.
fn before(daemon: &Daemon) -> Harmonia {
    let (socket, store) = (daemon.socket(), daemon.on_host("/nix/store"));
    // What was asked for can be deleted at once.
    let lease = "gc_lease = 0\n";
    let (socket, store) = (socket.display(), store.display());
    Harmonia::start(&format!("{lease}daemon_socket = \"{socket}\"\nreal_nix_store = \"{store}\"\n"))
}

/// What stands for the NAR of a path in URLs, by its narinfo.
fn nar_hash(http: Http, path: &str) -> String {
    let narinfo = http.get(&format!("/{}.narinfo", hash_part(path)));
    let line = narinfo.text().lines().find_map(|line| line.strip_prefix("NarHash: sha256:")).unwrap();
    line.to_owned()
}

/// All of a response but when it was made.
fn same(one: &Response, other: &Response) {
    assert_eq!((one.status, &one.body), (other.status, &other.body));
    for header in ["content-type", "content-length", "etag", "cache-control", "content-security-policy", "location"] {
        assert_eq!(one.header(header), other.header(header), "{header}");
    }
}

#[test]
fn every_release_has_its_files_found_by_their_nar_too() {
    for release in Release::ALL {
        let daemon = Daemon::shared(release);
        let harmonia = before(daemon);
        let http = harmonia.http();
        for (name, below) in
            [("odd-entries", "/"), ("odd-entries", "/a/link"), ("deep-tree", "/level-0/"), ("odd-name", "")]
        {
            let path = daemon.content().path(name);
            let by_path = http.get(&format!("/serve/{}{below}", hash_part(path)));
            let by_nar = http.get(&format!("/serve/{}{below}", nar_hash(http, path)));
            assert_eq!(by_nar.status, 200, "{release}: {name}{below}");
            same(&by_nar, &by_path);
        }
        let redirect = http.get(&format!("/serve/{}", nar_hash(http, daemon.content().path("deep-tree"))));
        let location = format!("./{}/", nar_hash(http, daemon.content().path("deep-tree")));
        assert_eq!((redirect.status, redirect.header("location")), (301, Some(&*location)));
        let miss = http.get(&format!("/serve/{UNKNOWN}/"));
        assert_eq!((miss.status, miss.header("cache-control")), (404, Some("no-store")));
    }
}

#[test]
fn what_comes_to_the_store_is_found_and_what_goes_is_not_for_as_long_as_one_has_the_nar() {
    let daemon = Daemon::start(Release::Nix2_34);
    let add = |name: &str, contents: &str| {
        let source = format!("/nix/tmp/{name}");
        let file = daemon.on_host(&source);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, contents).unwrap();
        daemon.run(&["nix-store", "--add", &source]).text()
    };
    let harmonia = before(&daemon);
    let http = harmonia.http();
    let status = |nar_hash: &str| http.get(&format!("/serve/{nar_hash}")).status;
    let first = add("first", "the same");
    let hash = nar_hash(http, &first);
    assert_eq!((status(&hash), status(UNKNOWN)), (200, 404));
    let second = add("second", "the same");
    let other = nar_hash(http, &add("other", "another"));
    assert_eq!((nar_hash(http, &second), status(&other)), (hash.clone(), 200));
    for (path, then) in [(&first, 200), (&second, 404)] {
        let _ = daemon.run(&["nix-store", "--delete", path]).stdout();
        assert_eq!(status(&hash), then, "without {path}");
    }
}

/// A scripted daemon with one path, a file, in a store that is seen.
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

    /// Puts a new file in the path's place.
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
fn a_nar_of_no_known_path_is_404_and_nothing_is_asked() {
    let store = Scripted::new(StoreItem::script);
    let miss = store.get(&store.item);
    assert_eq!((miss.status, miss.header("cache-control")), (404, Some("no-store")));
    assert_eq!(store.daemon.seen().asked, []);
    store.learn(&store.item);
    assert_eq!((store.get(&store.item).status, store.get(&store.item).text()), (200, "a"));
    assert!(!store.daemon.seen().asked.contains(&Question::AllPaths));
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
    store.daemon.play(Script::answering(|_| Wire::new().error("database is locked").into()));
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
    let daemon = ScriptedDaemon::start(Script::answering(move |question| {
        let of = |path: &str| all.iter().find(|item| item.path == *path || item.hash_part() == path).unwrap();
        match question {
            Question::PathInfo(about) if *about == built.path => built.info_reply_of_built().into(),
            Question::PathFromHashPart(about) | Question::PathInfo(about) => of(about).answer(question),
            _ => panic!("asked {question:?}"),
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
