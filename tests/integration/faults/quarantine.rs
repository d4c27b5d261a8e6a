//! Quarantine: paths whose NAR fails verification are 404 until it passes, and no others are.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::Http;
use crate::support::metrics::await_value;
use crate::support::narinfo::value;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

const HELD_BACK: &str = "harmonia_quarantined_paths";

/// Upper bound of a wait: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(60);

fn narinfo_url(path: &str) -> String {
    format!("/{}.narinfo", hash_part(path))
}

fn await_served(http: Http, path: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while http.get(&narinfo_url(path)).status != 200 {
        assert!(Instant::now() < deadline, "{path} stays in quarantine");
    }
}

/// Functions that damage and repair a store path, given its location on the host.
type Damage = (&'static str, fn(&Path), fn(&Path));

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn damage_and_repair_of_a_store_are_detected_for_every_release() {
    let damages: [Damage; 3] = [
        ("large", flip, flip),
        ("regular", |file| fs::write(file, "").unwrap(), |file| fs::write(file, "a regular file\n").unwrap()),
        (
            "deep-tree",
            |tree| fs::write(tree.join("more"), "more").unwrap(),
            |tree| {
                fs::remove_file(tree.join("more")).unwrap();
            },
        ),
    ];
    for release in Release::ALL {
        let daemon = Daemon::start(release);
        let harmonia = Harmonia::start(&format!(
            "daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\n",
            daemon.socket().display(),
            daemon.on_host("/nix/store").display()
        ));
        let http = harmonia.http();
        for (number, (name, damage, repair)) in (1..).zip(damages) {
            let path = daemon.content().path(name);
            let narinfo = http.get(&narinfo_url(path));
            let url = format!("/{}", value(narinfo.text(), "URL"));
            damage(&daemon.on_host(path));
            let _ = http.get_failing(&url, &[]);
            assert_eq!(http.get(&narinfo_url(path)).status, 404, "{name} of {release}");
            assert_eq!(http.get(&url).status, 404, "{name} of {release}");
            harmonia.wait_for_log_times("(answering 404)", number);
            repair(&daemon.on_host(path));
            await_served(http, path);
            assert_eq!(http.get(&url).status, 200, "{name} of {release}");
            harmonia.wait_for_log_times("from quarantine: its NAR was verified", number);
        }
        await_value(http, HELD_BACK, 0.0);
    }
}

#[test]
fn a_valid_path_without_files_is_quarantined_until_they_are_back_for_every_release() {
    for release in Release::ALL {
        for is_visible in [false, true] {
            let daemon = Daemon::start(release);
            let store = if is_visible { daemon.on_host("/nix/store") } else { "/nonexistent".into() };
            let harmonia = Harmonia::start(&format!(
                "daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\n",
                daemon.socket().display(),
                store.display()
            ));
            let http = harmonia.http();
            let path = daemon.content().path("regular");
            let narinfo = http.get(&narinfo_url(path));
            let url = format!("/{}", value(narinfo.text(), "URL"));
            fs::remove_file(daemon.on_host(path)).unwrap();
            // Nobody knows yet; then it is looked at once more, and only then believed.
            assert!([502, 404].contains(&http.get(&url).status), "{release}");
            let line = harmonia.wait_for_log("(answering 404)");
            assert!(line.contains("the files of ") && line.contains("are missing"), "{release}: {line}");
            assert_eq!([narinfo_url(path), url.clone()].map(|url| http.get(&url).status), [404, 404], "{release}");
            fs::write(daemon.on_host(path), "a regular file\n").unwrap();
            await_served(http, path);
            assert_eq!(http.get(&url).status, 200, "{release}");
        }
    }
}
