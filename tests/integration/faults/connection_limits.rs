//! More connections than the limit: new ones wait, and idle ones are reclaimed for them.

use std::thread;

use crate::nix::client::Client;
use crate::nix::release::Release;
use crate::support::metrics::{metrics, value};
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// Returns the full path of this number.
fn path(number: usize) -> String {
    format!("/nix/store/{number:032}-item")
}

/// Runs real Nix processes at one address, each of which requests this many paths by 25 connections.
fn real_clients(harmonia: &Harmonia, processes: usize, paths: usize) {
    let paths: Vec<_> = (0..paths).map(path).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let clients: Vec<_> = [Release::Nix2_34, Release::Nix2_26]
        .into_iter()
        .cycle()
        .take(processes)
        .map(|release| Client::new(release, harmonia.url(), &[]))
        .collect();
    thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                let found = client.nix_store("path-info", &paths).text();
                assert_eq!(found.lines().count(), paths.len());
            });
        }
    });
}

#[test]
fn real_clients_beyond_the_connection_limit_wait_and_all_succeed() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"small").script_for_any_path());
    let harmonia =
        Harmonia::start(&format!("{}trusted_proxies = []\nworkers = 1\nmax_connections = 60\n", daemon.config()));
    real_clients(&harmonia, 6, 200);
    let text = metrics(harmonia.http());
    assert!(value(&text, "harmonia_http_connections{state=\"active\"}") == Some(1.0), "{text}");
}

/// Many clients behind one address. Run with `-- --ignored --nocapture`: it takes a minute.
#[test]
#[ignore = "40 processes of Nix take a minute"]
fn forty_real_clients_of_one_address_at_default_limits() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"small").script_for_any_path());
    let harmonia = Harmonia::start(&format!("{}trusted_proxies = []\n", daemon.config()));
    let began = std::time::Instant::now();
    real_clients(&harmonia, 40, 700);
    eprintln!("40 processes with 700 paths each: {:?}", began.elapsed());
    let text = metrics(harmonia.http());
    let shown = text.lines().filter(|line| line.contains("reclaimed_total") || line.contains("http_connections{"));
    eprintln!("{}", shown.collect::<Vec<_>>().join("\n"));
}
