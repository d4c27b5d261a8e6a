//! `/<hash>.ls`: the listing of a NAR.

use serde_json::{Value, json};

use crate::sample::{self, http};
use crate::support::http::Response;
use crate::support::scripted_daemon::{Query, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::Wire;

fn url(name: &str) -> String {
    format!("/{}.ls", hash_part(sample::item(name).path.as_str()))
}

fn parsed(response: &Response) -> Value {
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    serde_json::from_slice(&response.body).unwrap()
}

/// Returns a NAR of this many files in one directory, with the contents of each.
fn many_files(count: usize) -> (StoreItem, Vec<(String, String)>) {
    let mut files: Vec<_> = (0..count).map(|n| (format!("file-{n}"), "x".repeat(n % 20) + &n.to_string())).collect();
    files.sort();
    let mut nar = Wire::new().string("nix-archive-1").string("(").string("type").string("directory");
    for (n, (name, contents)) in files.iter().enumerate() {
        nar = nar.strings_of(&["entry", "(", "name", name, "node", "(", "type", "regular"]);
        if n % 3 == 0 {
            nar = nar.strings_of(&["executable", ""]);
        }
        nar = nar.strings_of(&["contents", contents, ")", ")"]);
    }
    (StoreItem::with_nar(nar.string(")").done()), files)
}

#[test]
fn each_of_100_000_files_is_listed_in_order_with_its_offset() {
    let (item, files) = many_files(100_000);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let response = harmonia.http().get(&format!("/{}.ls", item.hash_part()));
    let listing = parsed(&response);
    assert_eq!((&listing["version"], &listing["root"]["type"]), (&json!(1), &json!("directory")));
    let text = response.text();
    let mut last = 0;
    for (n, (name, contents)) in files.iter().enumerate() {
        let node = &listing["root"]["entries"][name];
        let at = |field: &str| usize::try_from(node[field].as_u64().unwrap()).unwrap();
        let (offset, size) = (at("narOffset"), at("size"));
        assert!(item.nar[offset..offset + size] == *contents.as_bytes(), "{name}");
        assert_eq!(node["executable"], json!(n % 3 == 0), "{name}");
        let place = text[last..].find(&format!("{name:?}")).unwrap_or_else(|| panic!("{name} is out of order"));
        last += place;
    }
    assert_eq!(listing["root"]["entries"].as_object().unwrap().len(), files.len());
}

#[test]
fn names_that_are_not_utf_8_are_listed_with_replacement_characters() {
    let listing = parsed(&http().get(&url("odd-entries")));
    let entries = listing["root"]["entries"].as_object().unwrap();
    assert!(entries.len() > 1 && entries.keys().any(|name| name.contains('\u{fffd}')), "{entries:?}");
}

#[test]
fn a_nar_that_fails_in_the_middle_breaks_its_listing_off() {
    let (mut item, _) = many_files(10_000);
    item.nar_hash = "0".repeat(64);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let body = harmonia.http().get_failing(&format!("/{}.ls", item.hash_part()), &[]);
    assert!(!body.ends_with(b",\"version\":1}"));
    harmonia.wait_for_log(".ls\" aborted");
}

#[test]
fn an_unknown_path_has_no_listing() {
    let response = http().get(&format!("/{}.ls", "0".repeat(32)));
    assert_eq!((response.status, response.header("cache-control")), (404, Some("no-store")));
}

#[test]
fn a_listing_is_cacheable_for_an_hour_and_has_one_tag() {
    let whole = http().get(&url("deep-tree"));
    assert_eq!(whole.header("cache-control"), Some("public, max-age=3600"));
    let tag = whole.header("etag").unwrap();
    assert_eq!(http().get_with(&url("deep-tree"), &[("If-None-Match", tag)]).status, 304);
    let head = http().head(&url("deep-tree"));
    assert_eq!((head.header("etag"), head.header("content-length")), (Some(tag), whole.header("content-length")));
}

#[test]
fn a_listing_is_encoded_for_clients_that_accept_it() {
    let (item, files) = many_files(1000);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), nar_cache_on_demand()));
    let url = format!("/{}.ls", item.hash_part());
    let plain = harmonia.http().get(&url);
    let coded = harmonia.http().get_with(&url, &[("Accept-Encoding", "zstd")]);
    assert_eq!((plain.header("content-encoding"), coded.header("content-encoding")), (None, Some("zstd")));
    assert!(zstd::decode_all(&*coded.body).unwrap() == plain.body);
    assert_eq!(parsed(&plain)["root"]["entries"].as_object().unwrap().len(), files.len());
}

#[test]
fn a_nar_of_another_hash_has_no_listing_but_a_502() {
    let mut item = StoreItem::file(b"contents");
    item.nar_hash = "0".repeat(64);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let response = harmonia.http().get(&format!("/{}.ls", item.hash_part()));
    assert_eq!(
        (response.status, response.text().split(" (").next()),
        (502, Some("nix-daemon sent an error or invalid data"))
    );
    // The path is quarantined, and rechecked at once.
    assert!(matches!(daemon.seen().queries[..], [_, _, Query::Nar(_), ..]));
}
