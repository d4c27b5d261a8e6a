//! `harmonia hide`: what is hidden looks like what is not there, in every endpoint and after a restart.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::exit;
use crate::support::http::Response;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// A path, one that refers to it, and one that refers to that.
pub(crate) fn chain() -> [StoreItem; 3] {
    let item = |number: u32, references: &[&str]| StoreItem {
        path: format!("/nix/store/{number:032}-item"),
        references: references.iter().map(ToString::to_string).collect(),
        ..StoreItem::file(&number.to_le_bytes())
    };
    let first = item(1, &[]);
    let second = item(2, &[&first.path]);
    let third = item(3, &[&second.path, &format!("/nix/store/{:032}-item", 3)]);
    [first, second, third]
}

fn daemon() -> ScriptedDaemon {
    ScriptedDaemon::start(Script::replying(|query| {
        let found = StoreItem::reply_among(&chain(), query);
        found.unwrap_or_else(|| match query {
            Query::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
            Query::PathInfo(_) => Wire::new().number(LAST).number(0).into(),
            other => panic!("unexpected {other:?}"),
        })
    }))
}

pub(crate) fn run(socket: &Path, arguments: &[&str]) -> Output {
    Harmonia::program().arg("--admin-socket").arg(socket).args(arguments).stdout(Stdio::piped()).output().unwrap()
}

/// Runs a command that succeeds, and returns what it prints.
pub(crate) fn text(socket: &Path, arguments: &[&str]) -> String {
    let output = run(socket, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what a client can tell a response by: everything but the time and the number of the request.
pub(crate) fn seen(response: &Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut headers = response.headers.clone();
    headers.retain(|(name, _)| !["date", "x-request-id"].contains(&name.to_ascii_lowercase().as_str()));
    (response.status, headers, response.body.clone())
}

#[test]
fn a_hidden_path_looks_like_one_that_is_not_there_everywhere_until_it_is_shown() {
    let (daemon, socket, state) = (daemon(), scratch::fresh_dir().join("admin.sock"), scratch::fresh_dir());
    let config = format!("{}admin_socket = {socket:?}\nstate_dir = {state:?}\n", daemon.config());
    let [first, second, third] = chain();
    let urls = |item: &StoreItem| {
        let hash = item.hash_part();
        let urls = [
            item.narinfo_url(),
            format!("{}?json", item.narinfo_url()),
            item.nar_url(),
            format!("/{hash}.ls"),
            format!("/log/{hash}-item"),
            format!("/serve/{hash}/"),
            format!("/{hash}"),
        ];
        urls.to_vec()
    };
    let absent = StoreItem { path: format!("/nix/store/{:032}-item", 9), ..first.clone() };
    let mut harmonia = Harmonia::start(&config);
    // Warm in every cache.
    for url in [&first, &second, &third].into_iter().flat_map(urls) {
        harmonia.http().get(&url);
    }
    assert_eq!(harmonia.http().get(&first.narinfo_url()).status, 200);
    assert!(text(&socket, &["hidden"]).contains("no path is hidden"));
    assert!(!state.join("hidden").exists());
    text(&socket, &["hide", &first.path, "--reason", "has a key in it"]);
    let looks_absent = |harmonia: &Harmonia, item: &StoreItem| {
        for (url, of_absent) in urls(item).into_iter().zip(urls(&absent)) {
            let (hidden, missing) = (harmonia.http().get(&url), harmonia.http().get(&of_absent));
            assert_eq!(seen(&hidden), seen(&missing), "{url}");
            assert_eq!(hidden.status, 404, "{url}");
        }
    };
    looks_absent(&harmonia, &first);
    assert_eq!(harmonia.http().get(&third.narinfo_url()).status, 200);

    text(&socket, &["hide", first.hash_part(), "--referrers", "--reason", "has a key in it"]);
    for item in [&first, &second, &third] {
        looks_absent(&harmonia, item);
    }
    let status = text(&socket, &["status", &third.path]);
    for expected in ["clients get a 404 (hidden)", "-item", "ago: has a key in it"] {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    harmonia.kill();
    let harmonia = Harmonia::start(&config);
    for item in [&first, &second, &third] {
        looks_absent(&harmonia, item);
    }
    let hidden: Value = serde_json::from_str(&text(&socket, &["hidden", "--json"])).unwrap();
    assert_eq!((&hidden[0]["hash"], &hidden[0]["referrers"]), (&first.hash_part().into(), &true.into()), "{hidden}");
    assert_eq!(run(&socket, &["unhide", &third.path]).status.code(), Some(exit::DATA));
    text(&socket, &["unhide", &first.path]);
    for item in [&first, &second, &third] {
        assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200);
    }
}

#[test]
fn a_damaged_file_of_hidden_paths_keeps_the_server_from_starting() {
    let (daemon, state) = (daemon(), scratch::fresh_dir());
    fs::write(state.join("hidden"), "{\"format\":1,\"paths\":1}\n").unwrap();
    let file = state.join("config.toml");
    fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{}state_dir = {state:?}\n", daemon.config())).unwrap();
    let output = Harmonia::program().arg("--config").arg(&file).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit::DATA), "{log}");
    assert!(log.contains("hidden:1: it has 0 paths, but its first line says 1\n"), "{log}");
    assert!(log.contains("help: correct the file"), "{log}");
}

#[test]
fn without_a_state_directory_nothing_is_hidden_or_pinned() {
    let (daemon, socket) = (daemon(), scratch::fresh_dir().join("admin.sock"));
    let _harmonia = Harmonia::start(&format!("{}admin_socket = {socket:?}\n", daemon.config()));
    let [first, ..] = chain();
    for arguments in [&["hide", &first.path][..], &["pin", "web", &first.path], &["unpin", "web"], &["pins"]] {
        let output = run(&socket, arguments);
        assert_eq!(output.status.code(), Some(exit::DATA), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("help: set state_dir"), "{output:?}");
    }
}
