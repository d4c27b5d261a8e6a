//! Changes of a real store while its narinfos are cached: deleted and replaced paths are noticed at once, new signatures
//! within the ttl, and cached narinfos are served without nix-daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::Http;
use crate::support::keys;
use crate::support::narinfo::{value, values};
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

/// Starts a server that reads the files of the daemon's store, with this ttl and without GC protection.
fn seeing(daemon: &Daemon, ttl: u32) -> Harmonia {
    Harmonia::start(&format!(
        "daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\nsign_key_paths = [\"{}\"]\ngc_protection = 0\nnarinfo_cache.ttl = {ttl}\n",
        daemon.socket().display(),
        daemon.on_host("/nix/store").display(),
        keys::OURS.secret.display()
    ))
}

fn url(path: &str) -> String {
    format!("/{}.narinfo", hash_part(path))
}

/// Requests narinfo and NAR.
fn served(http: Http, path: &str) -> (String, Vec<u8>) {
    let narinfo = http.get(&url(path));
    assert_eq!(narinfo.status, 200, "{path}");
    let nar = http.get(&format!("/{}", value(narinfo.text(), "URL")));
    assert_eq!(nar.status, 200, "{path}");
    (narinfo.text().to_owned(), nar.body)
}

#[test]
fn a_path_that_is_deleted_or_replaced_is_so_at_once_for_every_release() {
    for release in Release::ALL {
        let daemon = Daemon::start(release);
        let harmonia = seeing(&daemon, 86_400);
        let http = harmonia.http();
        // Each by one of its kind: a daemon of 2.26 remembers for as long as its connection lasts what was a directory.
        let again: [(_, fn(&Path)); 3] = [
            ("regular", |file| fs::write(file, "another").unwrap()),
            ("deep-tree", |directory| fs::create_dir(directory).unwrap()),
            ("symlink", |link| symlink("elsewhere", link).unwrap()),
        ];
        for (name, make) in again {
            let path = daemon.content().path(name);
            let (before, nar) = served(http, path);
            let _ = daemon.run(&["nix-store", "--delete", path]).stdout();
            assert_eq!(http.get(&url(path)).status, 404, "{name} of {release}");

            make(&daemon.on_host(path));
            daemon.register(path);
            let (after, other_nar) = served(http, path);
            assert_ne!(value(&before, "NarHash"), value(&after, "NarHash"), "{name} of {release}");
            assert_ne!(nar, other_nar);
        }
    }
}

#[test]
fn a_signature_that_was_added_shows_within_the_ttl() {
    let daemon = Daemon::start(Release::Nix2_34);
    let path = daemon.content().path("regular").to_owned();
    let (at_once, late) = (seeing(&daemon, 0), seeing(&daemon, 86_400));
    let signers = |harmonia: &Harmonia| {
        let narinfo = harmonia.http().get(&url(&path));
        let signatures = values(narinfo.text(), "Sig");
        let mut names: Vec<_> = signatures.iter().map(|it| it.split(':').next().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!((signers(&at_once), signers(&late)), (vec![keys::OURS.name.into()], vec![keys::OURS.name.into()]));
    daemon.sign(&keys::FOREIGN, &path);
    assert_eq!(signers(&at_once), [keys::FOREIGN.name, keys::OURS.name]);
    assert_eq!(signers(&late), [keys::OURS.name]);
}

#[test]
fn cached_narinfos_are_served_without_the_daemon() {
    let mut daemon = Daemon::start(Release::Nix2_34);
    let path = |name: &str| daemon.content().path(name).to_owned();
    let (known, unknown, deleted) = (path("regular"), path("empty-file"), path("executable"));
    let servers = [seeing(&daemon, 0), seeing(&daemon, 86_400)];
    for harmonia in &servers {
        assert_eq!(harmonia.http().get(&url(&known)).status, 200);
        assert_eq!(harmonia.http().get(&url(&deleted)).status, 200);
    }
    daemon.stop();
    fs::remove_file(daemon.on_host(&deleted)).unwrap();
    for harmonia in &servers {
        assert_eq!(harmonia.http().get(&url(&known)).status, 200);
        for path in [&unknown, &deleted] {
            assert_eq!(harmonia.http().get(&url(path)).status, 502, "{path}");
        }
    }
}
