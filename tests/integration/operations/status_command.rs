//! `harmonia status`: the state of a running server, as text and as JSON.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::{Connection, Http};
use crate::support::keys;
use crate::support::narinfo::value;
use crate::support::scratch;
use crate::support::scripted_daemon::{Reply, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::{LAST, Wire};

const OTHER: [u8; 4] = [127, 0, 0, 9];

/// Starts a server with an admin socket.
pub(crate) fn server(config: &str) -> (Harmonia, PathBuf) {
    let socket = scratch::fresh_dir().join("admin.sock");
    (Harmonia::start(&format!("admin_socket = \"{}\"\ntrusted_proxies = []\n{config}", socket.display())), socket)
}

pub(crate) fn status(socket: &Path, arguments: &[&str]) -> Output {
    let mut program = Harmonia::program();
    program.arg("status").arg("--admin-socket").arg(socket).args(arguments).stdout(Stdio::piped()).output().unwrap()
}

fn text(socket: &Path) -> String {
    String::from_utf8(status(socket, &[]).stdout).unwrap()
}

fn json(socket: &Path) -> Value {
    let output = status(socket, &["--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Opens a download and reads only the head of its response.
pub(crate) fn stopped(http: Http, url: &str) -> Connection {
    let mut connection = http.connect_narrow().unwrap();
    connection.send(format!("GET {url} HTTP/1.1\r\nHost: cache\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    connection
}

#[test]
fn it_tells_who_gets_what_and_how_the_caches_do() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let nars = scratch::fresh_dir();
    let (harmonia, socket) = server(&format!(
        "daemon_socket = {:?}\nsign_key_paths = [{:?}]\nnar_cache.dir = {nars:?}\n",
        daemon.socket(),
        keys::OURS.secret
    ));
    let large = daemon.content().path("large");
    let client = Client::new(Release::Nix2_34, harmonia.url(), &[&keys::OURS]);
    assert!(client.copy(&[large]).succeeded());
    let narinfo = harmonia.http().get(&format!("/{}.narinfo", hash_part(large)));
    let url = format!("/{}", value(narinfo.text(), "URL"));
    let _mine = stopped(harmonia.http(), &url);
    let _others = [0; 2].map(|_| stopped(harmonia.http().from(OTHER), &url));

    let now = json(&socket);
    let name = large.strip_prefix("/nix/store/").unwrap();
    assert_eq!(now["listening"], serde_json::json!([harmonia.url()]));
    assert_eq!(now["keys"], serde_json::json!([keys::OURS.public]));
    assert_eq!((&now["daemon"]["is_up"], &now["daemon"]["release"]), (&true.into(), &"2.34.8".into()), "{now}");
    assert_eq!(now["connections"]["active"], 3, "{now}");
    let clients = now["connections"]["clients"]["first"].as_array().unwrap();
    assert_eq!((&clients[0]["client"], &clients[0]["active"]), (&"127.0.0.9".into(), &2.into()), "{now}");
    let sending = now["sending"]["first"].as_array().unwrap();
    assert_eq!((sending.len(), &now["sending"]["total"]), (3, &3.into()));
    for response in sending {
        let length = value(narinfo.text(), "FileSize").parse::<u64>().unwrap();
        assert_eq!(
            (&response["path"], &response["url"], &response["length"]),
            (&name.into(), &url.clone().into(), &length.into())
        );
        assert!((1..=length).contains(&response["sent"].as_u64().unwrap()), "{response}");
    }
    assert_eq!(now["nar_cache"]["dir"], nars.to_str().unwrap());
    // The first of them joined what was made ahead, or came before it.
    let asked = ["hits", "joined", "misses"].map(|how| now["nar_cache"][how].as_u64().unwrap());
    assert_eq!((&now["nar_cache"]["entries"], asked.iter().sum::<u64>()), (&1.into(), 4), "{now}");
    assert!(now["narinfo_cache"]["hits"].as_u64().unwrap() > 0 && now["requests"]["answered"].as_u64().unwrap() > 3);
    assert!(now["gc_protection"]["roots"].as_u64().unwrap() > 0, "{now}");

    let text = text(&socket);
    for expected in [
        &format!("harmonia {}, up ", env!("CARGO_PKG_VERSION")),
        harmonia.url(),
        &keys::OURS.public,
        name,
        "127.0.0.9  ",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.contains("up for ") && text.contains("Nix 2.34.8, protocol 1."), "{text}");
    assert_eq!(status(&socket, &[]).status.code(), Some(0));
    let one = status(&socket, &["--top", "1"]);
    assert!(String::from_utf8(one.stdout).unwrap().contains("and 2 more (--top)"));
}

#[test]
fn it_says_since_when_the_daemon_is_down_and_why() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let (harmonia, socket) = server("daemon_socket = \"/nonexistent/socket\"\n");
    let output = status(&socket, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("DOWN for ") && text.contains("cannot reach nix-daemon"), "{text}");
    assert_eq!(output.status.code(), Some(75));
    assert!(stderr(&output).contains("the server is running, but nix-daemon does not respond"), "{}", stderr(&output));
    let now = json(&socket);
    assert_eq!(now["daemon"]["is_up"], false);
    // A client was told so too, and the log.
    assert_eq!(harmonia.http().get("/ready").status, 503);
    let errors = json(&socket)["errors"].clone();
    let first = &errors["first"][0];
    assert!(first["message"].as_str().unwrap().contains("cannot reach nix-daemon"), "{errors}");
    assert!(first["time"].as_u64().unwrap() > 1_700_000_000, "{errors}");
    drop(daemon);
}

#[test]
fn it_lists_quarantined_paths_with_the_reason() {
    let (item, mut nar) = (StoreItem::file_of(300_000), StoreItem::file_of(300_000).nar);
    nar[150_000] ^= 1;
    let daemon = ScriptedDaemon::start(item.script_with_nar(move || Reply::from(Wire::new().number(LAST).raw(&nar))));
    let (harmonia, socket) = server(&daemon.config());
    assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200);
    let _ = harmonia.http().get_failing(&item.nar_url(), &[]);
    harmonia.wait_for_log("(answering 404)");
    let quarantined = &json(&socket)["quarantine"]["first"][0];
    assert_eq!(
        (&quarantined["path"], &quarantined["is_quarantined"]),
        (&item.path.strip_prefix("/nix/store/").unwrap().into(), &true.into()),
        "{quarantined}"
    );
    assert!(quarantined["reason"].as_str().unwrap().contains("has the hash sha256:"), "{quarantined}");
    let text = text(&socket);
    assert!(text.contains("Quarantined: 1 path whose NAR") && text.contains("  404 for "), "{text}");
}

#[test]
fn an_unreachable_admin_socket_is_an_error_with_a_help() {
    let socket = scratch::fresh_dir().join("admin.sock");
    let output = status(&socket, &[]);
    assert_eq!(output.status.code(), Some(69));
    let expected = format!("no harmonia server is listening on {}\n  help: check", socket.display());
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    // Without a word where it is, it is where a unit or a user has it.
    let mut program = Harmonia::program();
    let runtime = scratch::fresh_dir();
    let output = program.arg("status").env("XDG_RUNTIME_DIR", &runtime).output().unwrap();
    let expected =
        format!("no harmonia server is listening on {}/harmonia/admin.sock or /run/harmonia/", runtime.display());
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[test]
fn the_quick_start_is_found_in_the_directory_of_the_user() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let (runtime, home) = (scratch::fresh_dir(), scratch::fresh_dir());
    let config = home.join("config.toml");
    std::fs::write(&config, daemon.config()).unwrap();
    let mut program = Harmonia::program();
    program.args(["quickstart", "--bind", "127.0.0.1:0", "--config"]).arg(config);
    let _harmonia = Harmonia::launch({
        program.env("XDG_RUNTIME_DIR", &runtime).env("HOME", &home);
        program
    });
    let output = Harmonia::program().args(["status", "--json"]).env("XDG_RUNTIME_DIR", &runtime).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn it_is_watched_on_a_terminal_which_is_left_as_it_was() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let (_harmonia, socket) = server(&daemon.config());
    let refused = status(&socket, &["--watch"]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(stderr(&refused).contains("  help: use --watch --json"), "{}", stderr(&refused));

    // A terminal of its own, of which ctrl-C is a byte, and without a shell between, which it would end too.
    let command = format!("exec {} status --watch --admin-socket {}", env!("CARGO_BIN_EXE_harmonia"), socket.display());
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut script = script.spawn().unwrap();
    let (mut stdin, mut stdout) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (mut drawn, mut piece) = (String::new(), [0; 4096]);
    while !drawn.contains("\x1b[J") {
        let length = stdout.read(&mut piece).unwrap();
        assert!(length > 0, "{drawn}");
        drawn.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    stdin.write_all(b"\x03").unwrap();
    stdout.read_to_string(&mut drawn).unwrap();
    assert!(drawn.starts_with("\x1b[?1049h") && drawn.contains("nix-daemon at "), "{drawn:?}");
    assert!(drawn.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"), "{drawn:?}");
    assert_eq!(script.wait().unwrap().code(), Some(0));
}
