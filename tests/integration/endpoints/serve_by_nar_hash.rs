//! `/serve/<nar hash>/`: the files of a path, found by NAR hash among the cached path infos.

use std::fs;

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::{Http, Response};
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

/// NAR hash that no path has.
const UNKNOWN: &str = "0000000000000000000000000000000000000000000000000000";

/// Starts a server with a real daemon, whose files it reads.
fn before(daemon: &Daemon) -> Harmonia {
    let (socket, store) = (daemon.socket(), daemon.on_host("/nix/store"));
    // What was asked for can be deleted at once.
    let lease = "gc_protection = 0\n";
    let (socket, store) = (socket.display(), store.display());
    Harmonia::start(&format!("{lease}daemon_socket = \"{socket}\"\nreal_nix_store = \"{store}\"\n"))
}

/// Returns the NAR hash of a path as in URLs, from its narinfo.
fn nar_hash(http: Http, path: &str) -> String {
    let narinfo = http.get(&format!("/{}.narinfo", hash_part(path)));
    let line = narinfo.text().lines().find_map(|line| line.strip_prefix("NarHash: sha256:")).unwrap();
    line.to_owned()
}

/// Checks that two responses are equal but for their dates.
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
