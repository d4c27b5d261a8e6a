//! `harmonia status PATH`: the state of one path, named in any way.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::operations::status_command::{server, status, stderr, stopped};
use crate::support::keys;
use crate::support::narinfo::value;
use crate::support::scratch;
use crate::support::store_item::hash_part;

fn of(socket: &std::path::Path, named: &str) -> Value {
    let output = status(socket, &[named, "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{named}: {error}: {output:?}"))
}

fn text(socket: &std::path::Path, named: &str) -> String {
    String::from_utf8(status(socket, &[named]).stdout).unwrap()
}

#[test]
fn a_path_is_found_by_every_name_and_reported_in_full() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let (harmonia, socket) = server(&format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nnar_cache.dir = \"{}\"\nnar_cache.precompress = \"off\"\n",
        daemon.socket().display(),
        keys::OURS.secret.display(),
        scratch::fresh_dir().display()
    ));
    let path = daemon.content().path("large");
    let name = path.strip_prefix("/nix/store/").unwrap();
    let link = scratch::fresh_dir().join("result");
    symlink(path, &link).unwrap();

    let before = of(&socket, path);
    assert_eq!((&before["last_requested"], &before["compressed"]), (&Value::Null, &Value::Null), "{before}");
    let narinfo = harmonia.http().get(&format!("/{}.narinfo", hash_part(path)));
    let url = format!("/{}", value(narinfo.text(), "URL"));
    let nar = harmonia.http().get(&url);
    let _download = stopped(harmonia.http(), &url);

    let now = of(&socket, path);
    assert_eq!((&now["path"], &now["not_served"], &now["quarantine"]), (&path.into(), &Value::Null, &Value::Null));
    assert_eq!(now["signatures"], serde_json::json!([{ "key": keys::OURS.name, "status": "ours" }]));
    assert_eq!((&now["trust"], &now["closure"]["paths"]), (&"all".into(), &1.into()), "{now}");
    assert_eq!(now["compressed"]["size"], nar.body.len(), "{now}");
    assert_eq!((&now["sending"]["total"], &now["sending"]["first"][0]["path"]), (&1.into(), &name.into()), "{now}");
    assert!(now["last_requested"].as_u64().unwrap() > 1_700_000_000, "{now}");

    let nar_hash = value(narinfo.text(), "NarHash").to_owned();
    let urls = [format!("{}/{}.narinfo", harmonia.url(), hash_part(path)), format!("{}{url}", harmonia.url())];
    let others = [
        link.to_str().unwrap().to_owned(),
        name.to_owned(),
        hash_part(path).to_owned(),
        format!("{path}/in/it"),
        nar_hash,
    ];
    for named in urls.into_iter().chain(others) {
        assert_eq!(of(&socket, &named)["path"], path, "{named}");
    }
    let text = text(&socket, path);
    for expected in
        [path, "served      yes", "(a key of this cache)", "yes: every path is signed", " ago\n", "Sending 1 response"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn it_names_the_reason_why_a_path_is_not_served_and_the_size_of_its_closure() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let (_harmonia, socket) = server(&format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nsign = \"trusted\"\nserve_untrusted = false\n",
        daemon.socket().display(),
        keys::OURS.secret.display()
    ));
    let path = daemon.content().path("many-references");
    let now = of(&socket, path);
    assert_eq!((&now["trust"], &now["not_served"]["reason"]), (&"nobody".into(), &"untrusted".into()), "{now}");
    let references = now["references"].as_array().unwrap().len();
    assert_eq!(now["closure"]["paths"], references + 1, "{now}");
    let text = text(&socket, path);
    for expected in [
        "served      no, clients get a 404 (untrusted): ",
        "trusted     no: ",
        "signed by   nobody",
        "more (see --json",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn an_invalid_path_is_an_error_with_a_help() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let (_harmonia, socket) = server(&format!("daemon_socket = \"{}\"\n", daemon.socket().display()));
    for (named, message) in [
        ("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-absent", "no valid path has the hash part 0123456789abcdf"),
        ("/gnu/store/0123456789abcdfghijklmnpqrsvwxyz-absent", "not in /nix/store"),
        ("hello", "not a store path\n  help: pass /nix/store/HASH-NAME"),
    ] {
        let output = status(&socket, &[named]);
        assert_eq!(output.status.code(), Some(65), "{output:?}");
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
    assert!(stderr(&status(&socket, &["0123456789abcdfghijklmnpqrsvwxyz"])).contains("\n  help: build it or copy it"));
}
