//! Real clients while the daemon is away: all of them ride out a restart, and those that can go on to a second cache.

use std::thread;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::keys;
use crate::support::metrics::await_value;
use crate::support::release::Release;
use crate::support::scratch;
use crate::support::server::Harmonia;

/// How long a daemon is away that restarts.
const RESTART: Duration = Duration::from_secs(5);
const UP: &str = "harmonia_daemon_up";

#[test]
fn clients_of_every_release_ride_out_a_restart_of_five_seconds() {
    let mut daemon = Daemon::start(Release::Nix2_34);
    let harmonia = Harmonia::before(&daemon);
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
    harmonia.logged("the nix daemon answers again, after ");
    let log = harmonia.log();
    assert!(!log.contains("answered 502"), "{log}");
}

/// Up to 2.26 a client ends with an error where one of its caches cannot say.
#[test]
fn a_client_goes_on_to_a_second_cache_while_there_is_no_daemon() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let good = Harmonia::before(daemon);
    let alone = Harmonia::start(&format!("daemon_socket = \"{}\"\n", scratch::fresh_dir().join("none").display()));
    assert_eq!(alone.http().get(&format!("/{}.narinfo", "1".repeat(32))).status, 502);
    let client = Client::new(Release::Nix2_34, &format!("{} {}", alone.url(), good.url()), &[&keys::OURS]);
    let paths = ["regular", "executable", "symlink"].map(|name| daemon.content().path(name));
    let _ = client.realise(&paths).stdout();
    assert!(paths.iter().all(|path| client.has(path)));
}
