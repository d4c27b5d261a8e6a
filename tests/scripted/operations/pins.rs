//! `harmonia pin`: the links in the state directory, and that nix-daemon decides whether they are roots.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::operations::hidden::{run, text};
use crate::support::exit;
use crate::support::scratch;
use crate::support::scripted_daemon::{GcOperation, Reply, ScriptedDaemon, protect};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// Replies of a daemon that sees the links that it is told of, with these.
pub(crate) fn seeing(links: &Arc<Mutex<Vec<String>>>) -> impl Fn(&GcOperation) -> Reply + Send + Sync + use<> {
    let known = Arc::clone(links);
    move |operation| match operation {
        GcOperation::Link(link) => {
            known.lock().unwrap().push(link.clone());
            protect(operation)
        }
        GcOperation::Roots => {
            let links = known.lock().unwrap();
            let mut reply = Wire::new().number(LAST).number(links.len() as u64);
            for link in &*links {
                let target = fs::read_link(link).unwrap();
                reply = reply.string(link).string(target.to_str().unwrap());
            }
            reply.into()
        }
        _ => protect(operation),
    }
}

/// A daemon that sees the links if told so, and its links.
fn daemon(sees: bool) -> (ScriptedDaemon, Arc<Mutex<Vec<String>>>) {
    let links: Arc<Mutex<Vec<String>>> = Arc::default();
    let reply = seeing(&links);
    let script = StoreItem::file(b"").script().protecting(move |operation| match operation {
        GcOperation::Roots if !sees => protect(operation),
        GcOperation::StillValid(paths) => {
            let valid: Vec<_> = paths.iter().filter(|path| **path == StoreItem::file(b"").path).cloned().collect();
            Wire::new().number(LAST).strings(&valid).into()
        }
        _ => reply(operation),
    });
    (ScriptedDaemon::start(script), links)
}

fn server(daemon: &ScriptedDaemon) -> (Harmonia, PathBuf, PathBuf) {
    let (socket, state) = (scratch::fresh_dir().join("admin.sock"), scratch::fresh_dir());
    let config =
        format!("{}admin_socket = \"{}\"\nstate_dir = \"{}\"\n", daemon.config(), socket.display(), state.display());
    (Harmonia::start(&config), socket, state)
}

fn numbers(pins: &Value) -> Vec<u64> {
    pins[0]["generations"].as_array().unwrap().iter().map(|it| it["number"].as_u64().unwrap()).collect()
}

#[test]
fn each_pin_of_a_name_is_a_generation_of_which_five_are_kept() {
    let (daemon, links) = daemon(true);
    let (_harmonia, socket, state) = server(&daemon);
    let item = StoreItem::file(b"");
    assert_eq!(text(&socket, &["pins"]), "nothing is pinned\n");
    assert!(!state.join("pins").exists());
    for _ in 0..4 {
        text(&socket, &["pin", "web", &item.path]);
    }
    assert_eq!(daemon.seen().rooted, vec![item.path.clone(); 4]);
    let first = links.lock().unwrap()[0].clone();
    assert_eq!(fs::read_link(&first).unwrap().to_str(), Some(&*item.path));
    // The daemon of the test lists links that are there.
    text(&socket, &["pin", "web", &item.path, "--for", "30d"]);
    let pins = || -> Value { serde_json::from_str(&text(&socket, &["pins", "--json"])).unwrap() };
    assert_eq!(numbers(&pins()), [5, 4, 3, 2, 1]);
    let newest = &pins()[0]["generations"][0];
    assert_eq!(newest["until"].as_u64().unwrap() - newest["since"].as_u64().unwrap(), 30 * 86_400);
    text(&socket, &["pin", "web", &item.path]);
    assert_eq!(numbers(&pins()), [6, 5, 4, 3, 2]);
    assert!(!PathBuf::from(first).is_symlink());
    fs::write(state.join("pins/web/README"), "mine").unwrap();
    text(&socket, &["unpin", "web"]);
    assert_eq!(pins(), Value::Array(Vec::new()));
    assert_eq!(fs::read_dir(state.join("pins/web")).unwrap().count(), 1);
    assert_eq!(run(&socket, &["unpin", "web"]).status.code(), Some(exit::DATA));
}

#[test]
fn a_pin_that_nix_daemon_does_not_see_or_whose_path_is_not_valid_is_refused_and_leaves_nothing() {
    let (daemon, _) = daemon(false);
    let (_harmonia, socket, state) = server(&daemon);
    let item = StoreItem::file(b"");
    let absent = format!("/nix/store/{:032}-absent", 9);
    for (name, path, why) in [
        ("web", &item.path, "nix-daemon does not see "),
        ("web", &absent, "-absent is not valid, so it cannot be pinned\n"),
        ("../web", &item.path, "cannot be the name of a pin\n"),
        (".web", &item.path, "cannot be the name of a pin\n"),
    ] {
        let output = run(&socket, &["pin", name, path]);
        assert_eq!(output.status.code(), Some(exit::DATA), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
    assert_eq!(text(&socket, &["pins"]), "nothing is pinned\n");
    assert!(fs::read_dir(state.join("pins")).unwrap().next().is_none());
}

#[test]
fn a_pin_ends_at_its_time_also_when_the_server_was_killed() {
    let (daemon, _) = daemon(true);
    let (mut harmonia, socket, state) = server(&daemon);
    text(&socket, &["pin", "web", &StoreItem::file(b"").path, "--for", "1s"]);
    harmonia.wait_for_log("removed generation 1 of pin web: its time is over");
    assert!(!state.join("pins/web").exists());
    text(&socket, &["pin", "web", &StoreItem::file(b"").path, "--for", "1h"]);
    harmonia.kill();
    let file = state.join("pins/web/.1.json");
    let mut generation: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    generation["until"] = 1.into();
    fs::write(&file, generation.to_string()).unwrap();
    let harmonia = Harmonia::start(&format!("{}state_dir = {state:?}\n", daemon.config()));
    harmonia.wait_for_log("removed generation 1 of pin web: its time is over");
}
