//! Log injection: neither nix-daemon, nor a `daemon_command`, nor names of files in the store can forge a line of the log.
//! URLs are in `faults::bad_requests`.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// Text that looks like a line of the log.
const FORGED: &str = "2026-01-01T00:00:00Z ERROR forged";
/// Size that exceeds the buffers of both sockets.
const LARGE: u64 = 64 << 20;

/// Returns a forged line after each kind of line end, and terminal escape sequences.
fn hostile() -> String {
    format!("x\r\n{FORGED}\r{FORGED}\u{85}{FORGED}\u{2028}{FORGED}\n  {FORGED}\x1b[2K\x1b]0;title\x07\u{202e}")
}

/// Starts the program at the most verbose level.
fn talkative(config: &str) -> Harmonia {
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{config}")).unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(file).env("RUST_LOG", "trace");
    Harmonia::launch(program)
}

/// Checks that the forged text is in the log, but only within the program's own lines.
fn is_honest(log: &str) {
    assert!(log.contains("forged"), "{log}");
    let lines: Vec<_> = log.split(['\n', '\r', '\u{85}', '\u{2028}']).collect();
    assert!(!lines.iter().any(|line| line.trim_start().starts_with(FORGED)), "{log}");
    let is_harmful = |c: char| (c.is_control() && c != '\n') || "\u{2028}\u{202e}".contains(c);
    assert!(!log.contains(is_harmful), "{log:?}");
}

#[test]
fn a_daemon_that_reports_an_error_writes_no_line_of_its_own() {
    let item = StoreItem::file(b"");
    let wire = || Wire::new().number(LAST).number(0).error(&hostile());
    let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
        Query::PathInfo(_) => Reply::from(Wire::new().error(&hostile())),
        Query::Nar(_) => wire().into(),
        _ => item.reply(query),
    }));
    let harmonia = talkative(&daemon.config());
    assert_eq!(harmonia.http().get(&StoreItem::file(b"").narinfo_url()).status, 502);
    harmonia.wait_for_log("answered 502");
    is_honest(&harmonia.log());
}

#[test]
fn a_program_that_speaks_for_the_daemon_writes_no_line_of_its_own() {
    let program = scratch::fresh_dir().join("daemon");
    fs::write(&program, format!("#!/bin/sh\ncat >&2 <<'END'\n{}\nEND\n", hostile())).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let harmonia = talkative(&format!("daemon_command = {program:?}\n"));
    harmonia.wait_for_log("ERROR ");
    is_honest(&harmonia.log());
}

#[test]
fn a_file_of_the_store_writes_no_line_by_its_name() {
    let real = scratch::fresh_dir();
    let item = StoreItem::file(b"");
    let daemon = ScriptedDaemon::start(item.script());
    let root = real.join(item.path.strip_prefix("/nix/store/").unwrap());
    fs::create_dir(&root).unwrap();
    let name = hostile();
    let file = root.join(OsStr::from_bytes(name.as_bytes()));
    let open = OpenOptions::new().write(true).create_new(true).open(&file).unwrap();
    open.set_len(LARGE).unwrap();
    let harmonia = talkative(&format!("{}real_nix_store = {real:?}\n", daemon.config()));
    let encoded = percent_encode(name.as_bytes(), NON_ALPHANUMERIC);
    let mut stream = TcpStream::connect(harmonia.address()).unwrap();
    let target = format!("/serve/{}/{encoded}", item.hash_part());
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes()).unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    // It becomes shorter while it is sent.
    open.set_len(0).unwrap();
    stream.read_to_end(&mut Vec::new()).ok();
    let line = harmonia.wait_for_log(" aborted: ");
    assert!(line.contains("forged"), "{line}");
    is_honest(&harmonia.log());
}

/// Two hundred requests that fail with the same error, and as many truncated bodies.
#[test]
fn an_error_of_many_requests_is_logged_once_per_kind_and_each_request_id_at_debug() {
    const REQUESTS: usize = 100;
    let item = StoreItem::file_of(300_000);
    let cut = item.nar[..200_000].to_vec();
    let script = || {
        let (good, cut) = (item.clone(), cut.clone());
        Script::replying(move |query| match query {
            Query::Nar(_) => Reply::then_disconnect(Wire::new().number(LAST).raw(&cut).done()),
            Query::PathInfo(_) => good.reply(query),
            Query::PathFromHashPart(hash) if *hash == good.hash_part() => good.reply(query),
            _ => Wire::new().error("the database is locked").into(),
        })
    };
    let daemon = ScriptedDaemon::start(script());
    let ask = |harmonia: &Harmonia| {
        (0..REQUESTS)
            .map(|_| {
                harmonia.http().get_failing(&item.nar_url(), &[]);
                let response = harmonia.http().get("/11111111111111111111111111111111.narinfo");
                response.header("x-request-id").unwrap().to_owned()
            })
            .collect::<Vec<_>>()
    };
    let quiet = Harmonia::start(&daemon.config());
    ask(&quiet);
    quiet.wait_for_log("database is locked");
    quiet.wait_for_log(" aborted");
    let lines = quiet.log().lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).count();
    // Two kinds, each again every ten seconds on a machine that is busy, and that nothing is signed.
    assert!(lines < REQUESTS / 5, "{}", quiet.log());

    let talkative = talkative(&daemon.config());
    for id in ask(&talkative) {
        assert!(talkative.wait_for_log(&id).contains("the database is locked"));
    }
}
