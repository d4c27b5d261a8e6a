//! Precompression: NARs that are compressed before they are requested.

use crate::support::metrics::{await_value, metrics, value};
use crate::support::nar_cache::{decoded, nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const AHEAD: &str = "harmonia_nar_cache_precompressed_total";
const ENTRIES: &str = "harmonia_nar_cache_entries";

fn item(number: u8) -> StoreItem {
    let item = StoreItem::file(&vec![number; 100_000]);
    StoreItem { path: format!("/nix/store/{number:032}-item"), ..item }
}

fn daemon() -> ScriptedDaemon {
    ScriptedDaemon::start(Script::replying(|query| {
        let asked = |item: &StoreItem| match query {
            Query::PathFromHashPart(hash) => hash == item.hash_part(),
            Query::PathInfo(path) | Query::Nar(path) => *path == item.path,
            _ => false,
        };
        let none = || Reply::from(Wire::new().number(LAST).number(0));
        (0..8).map(item).find(asked).map_or_else(none, |item| item.reply(query))
    }))
}

#[test]
fn the_nar_of_a_requested_narinfo_is_precompressed() {
    let daemon = daemon();
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config_without_cache()));
    let http = harmonia.http();
    for number in 0..4 {
        assert_eq!(http.get(&item(number).narinfo_url()).status, 200);
    }
    // Nix 2.3 does not take it.
    let old = [("User-Agent", "curl/7.72.0 Nix/2.3.7")];
    assert_eq!(http.get_with(&item(4).narinfo_url(), &old).status, 200);
    await_value(http, ENTRIES, 4.0);
    for number in 0..4 {
        let narinfo = http.get(&item(number).narinfo_url());
        assert!(narinfo.text().contains("FileSize: "), "{}", narinfo.text());
        assert!(decoded(&http.get(&nar_url_of(http, &item(number).narinfo_url())).body) == item(number).nar);
    }
    let metrics = metrics(http);
    assert_eq!(value(&metrics, AHEAD), Some(4.0));
    assert_eq!(value(&metrics, "harmonia_nar_cache_requests_total{result=\"hit\"}"), Some(4.0));
    assert_eq!(value(&metrics, "harmonia_nar_cache_requests_total{result=\"miss\"}"), Some(0.0));
}

#[test]
fn nothing_is_precompressed_with_precompress_off() {
    let daemon = daemon();
    let dir = scratch::fresh_dir().join("nars");
    let off = format!("nar_cache.precompress = \"off\"\n{}", daemon.config());
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &off));
    let http = harmonia.http();
    let urls = [0, 1].map(|number| nar_url_of(http, &item(number).narinfo_url()));
    // A requested NAR is compressed after those that would have been precompressed.
    assert!(decoded(&http.get(&urls[1]).body) == item(1).nar);
    await_value(http, ENTRIES, 1.0);
    assert_eq!(value(&metrics(http), AHEAD), Some(0.0));
}

#[test]
fn the_nar_of_a_new_store_path_is_precompressed_with_precompress_new() {
    let daemon = ScriptedDaemon::start(item(0).script());
    let dir = scratch::fresh_dir().join("nars");
    let harmonia =
        Harmonia::start(&with_nar_cache(&dir, &format!("{}nar_cache.precompress = \"new\"\n", daemon.config())));
    daemon.wait_until(|seen| seen.queries.contains(&Query::AllPaths));
    // Now there is another one, and nobody asks for it.
    daemon.play(item(1).script());
    await_value(harmonia.http(), ENTRIES, 1.0);
    daemon.wait_until(|seen| seen.queries.contains(&Query::Nar(item(1).path)));
    assert!(!daemon.seen().queries.contains(&Query::Nar(item(0).path)));
}
