//! Socket activation: listening sockets of a service manager, which the test plays.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

use crate::support::http::Http;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

const REQUEST: &[u8] = b"GET /nix-cache-info HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n";

/// Returns the command by which a service manager starts the program: with two descriptors, passed through standard input
/// and output, and `LISTEN_PID` of the process that becomes the program.
fn activated(daemon: &ScriptedDaemon, descriptors: [OwnedFd; 2]) -> Command {
    let [third, fourth] = descriptors;
    let harmonia = Harmonia::program();
    let mut program = Command::new("sh");
    program
        .args(["-c", r#"export LISTEN_PID=$$; exec "$0" "$@" 3<&0 4<&1 </dev/null >/dev/null"#])
        .arg(harmonia.get_program())
        // An address for documentation: a bind of it would fail.
        .args(["--bind", "192.0.2.1:1", "--config"])
        .arg(config(daemon))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "first:second")
        .stdin(third)
        .stdout(fourth);
    program
}

fn config(daemon: &ScriptedDaemon) -> PathBuf {
    let path = scratch::fresh_dir().join("config.toml");
    fs::write(&path, daemon.config()).unwrap();
    path
}

fn daemon() -> ScriptedDaemon {
    ScriptedDaemon::start(StoreItem::file(b"").script())
}

#[test]
fn sockets_of_both_kinds_are_served_in_place_of_bind_and_outlive_the_server() {
    let path = scratch::fresh_dir().join("http");
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let address = tcp.local_addr().unwrap();
    let daemon = daemon();
    for _ in 0..2 {
        // A client that comes before the server waits for it.
        let mut early = UnixStream::connect(&path).unwrap();
        early.write_all(REQUEST).unwrap();
        let mut harmonia =
            Harmonia::launch(activated(&daemon, [tcp.try_clone().unwrap().into(), unix.try_clone().unwrap().into()]));
        harmonia.wait_for_log("using the sockets of the service manager, not bind = \"192.0.2.1:1\"");
        harmonia.wait_for_log(&format!("listening on http://{address}"));
        harmonia.wait_for_log(&format!("listening on unix:{}", path.display()));
        let mut answer = String::new();
        early.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\n\r\nStoreDir: "), "{answer}");
        assert_eq!(Http::new(address).get("/nix-cache-info").status, 200);
        harmonia.terminate();
        assert_eq!(harmonia.ended().code(), Some(0));
        assert!(path.exists());
    }
}

#[test]
fn a_descriptor_that_nothing_can_be_accepted_from_is_named() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (one, _other) = UnixStream::pair().unwrap();
    let output = activated(&daemon(), [tcp.into(), one.into()]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("cannot listen on the passed descriptor \"second\": it is not a listening"), "{log}");
}

#[test]
fn sockets_that_were_lost_on_the_way_are_warned_of() {
    let daemon = daemon();
    let mut program = Harmonia::program();
    program.arg("--config").arg(config(&daemon)).args(["--bind", "127.0.0.1:0"]).env("LISTEN_FDS", "1");
    Harmonia::launch(program)
        .wait_for_log(" WARN ignoring the sockets of the service manager: LISTEN_FDS is set without LISTEN_PID");
}

#[test]
fn sockets_that_were_passed_to_another_process_are_left_alone() {
    let mut program = Harmonia::program();
    program
        .args(["--bind", "127.0.0.1:0", "--config"])
        .arg(config(&daemon()))
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1");
    let harmonia = Harmonia::launch(program);
    assert!(!harmonia.log().contains("service manager"), "{}", harmonia.log());
}
