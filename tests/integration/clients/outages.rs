//! Real clients while the daemon is away: all of them ride out a restart, and those that can go on to a second cache.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::metrics::await_value;
use crate::support::scratch;
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::hash_part;

/// Duration of a restart of nix-daemon.
const RESTART: Duration = Duration::from_secs(5);
/// Time in which every client has sent its first request.
const FIRST_FAILURES: Duration = Duration::from_secs(20);
const UP: &str = "harmonia_daemon_up";

#[test]
fn clients_of_every_release_ride_out_a_restart_of_five_seconds() {
    let mut daemon = Daemon::start(Release::Nix2_34);
    let harmonia = Harmonia::for_daemon(&daemon);
    await_value(harmonia.http(), UP, 1.0);
    let path = daemon.content().path("many-references").to_owned();
    daemon.stop();
    thread::scope(|scope| {
        for release in Release::ALL {
            let (path, url) = (path.as_str(), harmonia.url());
            scope.spawn(move || {
                let client = Client::new(release, url, &[&keys::OURS]);
                let _ = client.copy(&[path]).stdout();
                assert!(client.verified_closure(&[path]).len() > 1, "{release}");
            });
        }
        await_value(harmonia.http(), UP, 0.0);
        // The length of the outage is what is tested.
        thread::sleep(RESTART);
        daemon.restart(Release::Nix2_34);
    });
    await_value(harmonia.http(), UP, 1.0);
    harmonia.wait_for_log("nix-daemon replies again after ");
    let log = harmonia.log();
    assert!(!log.contains("answered 502"), "{log}");
}

/// Up to 2.26 a client fails if one of its caches responds with an error.
#[test]
fn a_client_goes_on_to_a_second_cache_while_there_is_no_daemon() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let good = Harmonia::for_daemon(daemon);
    let alone = Harmonia::start(&format!("daemon_socket = \"{}\"\n", scratch::fresh_dir().join("none").display()));
    assert_eq!(alone.http().get(&format!("/{}.narinfo", "1".repeat(32))).status, 502);
    let client = Client::new(Release::Nix2_34, &format!("{} {}", alone.url(), good.url()), &[&keys::OURS]);
    let paths = ["regular", "executable", "symlink"].map(|name| daemon.content().path(name));
    let _ = client.realise(&paths).stdout();
    assert!(paths.iter().all(|path| client.has(path)));
}

/// Nix up to 2.33 decodes the answer to its next attempt as it decoded the body of an error, and the narinfo that comes then
/// is encoded where the client accepts that.
#[test]
fn the_body_of_a_502_corrupts_no_later_response() {
    let mut daemon = Daemon::start(Release::Nix2_34);
    let log = scratch::fresh_dir().join("access.log");
    let harmonia = Harmonia::start(&format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\naccess_log.file = \"{}\"\n{}",
        daemon.socket().display(),
        keys::OURS.secret.display(),
        log.display(),
        nar_cache_on_demand()
    ));
    await_value(harmonia.http(), UP, 1.0);
    let path = daemon.content().path("many-references").to_owned();
    daemon.stop();
    // From then on each query is told at once.
    assert_eq!(harmonia.http().get(&format!("/{}.narinfo", hash_part(&path))).status, 502);
    let failed = |release: Release| {
        let text = fs::read_to_string(&log).unwrap();
        let agent = release.to_string().replace(' ', "/");
        text.lines()
            .find(|line| line.contains(&agent) && line.contains("\"GET ") && line.contains("\" 502 "))
            .map(str::to_owned)
    };
    thread::scope(|scope| {
        for release in Release::ALL {
            let (path, url) = (path.as_str(), harmonia.url());
            scope.spawn(move || {
                let client = Client::new(release, url, &[&keys::OURS]);
                // Which asks by GET at once, where `nix copy` begins with HEAD.
                let command = ["nix-store", "--realise", "--option", "download-attempts", "20", path];
                let _ = client.run(&command).stdout();
                assert!(client.verified_closure(&[path]).len() > 1, "{release}");
            });
        }
        // Not for ever: clients that wait for the daemon keep this from its end.
        let deadline = Instant::now() + FIRST_FAILURES;
        while Instant::now() < deadline && !Release::ALL.into_iter().all(|release| failed(release).is_some()) {
            thread::yield_now();
        }
        daemon.restart(Release::Nix2_34);
    });
    for release in Release::ALL {
        let text = || fs::read_to_string(&log).unwrap();
        let line = failed(release).unwrap_or_else(|| panic!("no 502 for {release}:\n{}", text()));
        let has_body = !line.contains("\" 502 0 ");
        assert_eq!(has_body, release != Release::Nix2_26, "{line}");
    }
}
