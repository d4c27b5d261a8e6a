//! `/nix-cache-info`.

use crate::sample;
use crate::support::narinfo;
use crate::support::server::Harmonia;

const EXPECTED: &str = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n";

#[test]
fn cache_info_has_exactly_three_keys_even_with_the_daemon_down() {
    let without_daemon = Harmonia::start("daemon_socket = \"/nonexistent/socket\"\n");
    for http in [sample::http(), without_daemon.http()] {
        let response = http.get("/nix-cache-info");
        assert_eq!((response.status, response.text()), (200, EXPECTED));
        assert_eq!(response.header("content-type"), Some("text/x-nix-cache-info"));
    }
}

#[test]
fn the_store_directory_is_the_daemons_without_a_trailing_slash() {
    let response = sample::http().get("/nix-cache-info");
    let directory = narinfo::value(response.text(), "StoreDir");
    let (above, _) = sample::item("regular").path.as_str().rsplit_once('/').unwrap();
    assert_eq!(directory, above);
}

#[test]
fn the_priority_is_always_an_unsigned_decimal() {
    for (config, priority) in [("", "30"), ("priority = 0\n", "0"), ("priority = 2147483647\n", "2147483647")] {
        let harmonia = Harmonia::start(&format!("daemon_socket = \"/nonexistent/socket\"\n{config}"));
        let response = harmonia.http().get("/nix-cache-info");
        assert_eq!(narinfo::value(response.text(), "Priority"), priority);
    }
}
