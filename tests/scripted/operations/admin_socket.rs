//! Admin socket: its access control, and that the public listener serves none of its requests.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use serde_json::{Value, json};

use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// User ID that is neither root's nor the server's.
const OTHER: u32 = 4321;

/// Sends a request and returns head and body of the response.
fn ask(socket: &Path, request: &str) -> std::io::Result<(String, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    Ok((head.to_owned(), serde_json::from_str(body)?))
}

fn get(socket: &Path, target: &str) -> (String, Value) {
    ask(socket, &format!("GET {target} HTTP/1.1\r\nHost: harmonia\r\n\r\n")).unwrap()
}

#[test]
fn requests_are_answered_at_the_admin_socket_and_nowhere_else_for_as_long_as_the_server_runs() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    // The directory is made for it.
    let socket = scratch::fresh_dir().join("admin/admin.sock");
    let nars = scratch::fresh_dir();
    let config = format!("{}admin_socket = {socket:?}\nnar_cache.dir = {nars:?}\n", daemon.config());
    let mut harmonia = Harmonia::start(&config);
    let (head, cache) = get(&socket, "/cache");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: application/json"), "{head}");
    assert_eq!(cache, json!({ "dir": nars, "max_size": 10_u64 << 30 }));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));

    let (head, error) = get(&socket, "/nix-cache-info");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert!(error["error"].as_str().unwrap().contains("has no admin request GET /nix-cache-info"), "{error}");
    let long = ask(&socket, "POST /cache HTTP/1.1\r\nHost: harmonia\r\nContent-Length: 1048577\r\n\r\n");
    assert!(long.unwrap().0.starts_with("HTTP/1.1 413 "));
    for target in ["/cache", "/status"] {
        assert_eq!(harmonia.http().get(target).status, 404, "{target}");
    }

    // Another server with the same configuration serves without it.
    let second = Harmonia::start(&config);
    let line = second.wait_for_log("cannot open the admin socket, ");
    assert!(line.contains(" WARN ") && line.contains("another server is listening there"), "{line}");
    assert_eq!(second.http().get("/nix-cache-info").status, 200);
    drop(second);
    get(&socket, "/cache");

    harmonia.terminate();
    assert_eq!(harmonia.ended().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn the_socket_of_a_server_that_was_killed_is_replaced() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let socket = scratch::fresh_dir().join("admin.sock");
    let config = format!("{}admin_socket = {socket:?}\n", daemon.config());
    Harmonia::start(&config).kill();
    assert!(socket.exists());
    let _harmonia = Harmonia::start(&config);
    assert_eq!(get(&socket, "/cache").1["dir"], Value::Null);
}

#[test]
fn another_user_may_not_ask_even_if_the_mode_of_the_socket_lets_it() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let directory = scratch::fresh_dir();
    let socket = directory.join("admin.sock");
    let harmonia = Harmonia::start(&format!("{}admin_socket = {socket:?}\n", daemon.config()));
    if directory.metadata().unwrap().uid() != 0 {
        return eprintln!("only root can be another user");
    }
    // Whoever may not look into the directory learns nothing.
    for parent in socket.ancestors().skip(1).take_while(|parent| parent.starts_with(std::env::temp_dir())) {
        fs::set_permissions(parent, Permissions::from_mode(0o755)).unwrap();
    }
    let as_another = |socket: &Path| {
        let socket = socket.to_owned();
        let asking = thread::spawn(move || {
            let other = Uid::from_raw(OTHER);
            set_thread_res_uid(other, other, other).unwrap();
            ask(&socket, "GET /cache HTTP/1.1\r\nHost: harmonia\r\n\r\n").map_err(|error| error.kind())
        });
        asking.join().unwrap()
    };
    assert_eq!(as_another(&socket), Err(ErrorKind::PermissionDenied));
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    assert!(as_another(&socket).is_err());
    harmonia.wait_for_log(&format!("refused user {OTHER} on the admin socket"));
    get(&socket, "/cache");
}

#[test]
fn without_a_writable_directory_there_is_no_admin_socket() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    for (key, is_there) in [("", true), ("admin_socket = \"\"\n", false)] {
        let (runtime, file) = (scratch::fresh_dir(), scratch::fresh_dir().join("config.toml"));
        fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{}{key}", daemon.config())).unwrap();
        let mut program = Harmonia::program();
        program.arg("--config").arg(file).env("RUNTIME_DIRECTORY", &runtime);
        let harmonia = Harmonia::launch(program);
        assert_eq!(harmonia.http().get("/nix-cache-info").status, 200);
        assert_eq!(runtime.join("admin.sock").exists(), is_there);
    }
}
