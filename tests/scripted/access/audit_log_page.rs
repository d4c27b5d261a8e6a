//! `docs/reference/audit-log.md` before real lines.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::http::Response;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::users::{basic, users_file};

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/audit-log.md")).unwrap()
}

/// Returns the names in the first column of the table with this head.
fn column<'p>(page: &'p str, head: &str) -> Vec<&'p str> {
    let table = page.split_once(&format!("| {head} |")).unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect()
}

/// Returns the fields of a line, in their order. No value of these tests has a quote.
fn fields(line: &str) -> Vec<&str> {
    let parts: Vec<_> = line.split('"').collect();
    parts.windows(2).filter(|two| two[1].starts_with(':')).map(|two| two[0]).collect()
}

fn event(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned()
}

/// Returns lines with every event, and every field.
fn lines() -> Vec<String> {
    let item = StoreItem::file(b"recorded");
    let daemon = ScriptedDaemon::start(item.script());
    let directory = scratch::fresh_dir();
    let file = directory.join("audit.log");
    let mut harmonia = Harmonia::start(&format!(
        "{}state_dir = \"{}\"\n[access]\nanonymous = []\nusers_file = \"{}\"\n[[access.grant]]\nwho = [\"user:alice\"]\n\
         may = [\"read\", \"push\"]\n[push]\n[audit]\nfile = \"{}\"\n",
        daemon.config(),
        directory.display(),
        users_file(&[("alice", "correct-horse")]).display(),
        file.display()
    ));
    let credentials = basic("alice", "correct-horse");
    let get = |url: &str| harmonia.http().get_with(url, &[("Authorization", &credentials)]).status;
    let put = |url: &str, body: &[u8]| -> Response {
        let mut connection = harmonia.http().connect().unwrap();
        let length = body.len();
        let head = format!(
            "PUT {url} HTTP/1.1\r\nHost: c\r\nAuthorization: {credentials}\r\nContent-Length: {length}\r\n\r\n"
        );
        connection.send(head.as_bytes()).unwrap();
        connection.send(body).unwrap();
        connection.receive(false).unwrap()
    };
    assert_eq!([get(&item.narinfo_url()), get(&item.narinfo_url()), get("/nix-cache-info")], [200; 3]);
    let wrong = [("Authorization", &*basic("alice", "battery-staple"))];
    assert_eq!(harmonia.http().get_with("/nix-cache-info", &wrong).status, 401);
    assert_eq!(put(&format!("/nar/{}.nar", item.nar_hash_in_nix32()), &item.nar).status, 200);
    assert_eq!(put("/nix-cache-info", b"").status, 405);
    harmonia.reload();
    harmonia.wait_for_log("reopened the audit log");
    harmonia.terminate();
    assert!(harmonia.ended().success());
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_page_of_the_audit_log_has_each_field_and_event_of_real_lines_and_no_other() {
    let (page, lines) = (page(), lines());
    let documented = column(&page, "Field | In | Meaning");
    let is_in_order = |line: &str| {
        let fields = fields(line);
        let expected: Vec<_> = documented.iter().copied().filter(|name| fields.contains(name)).collect();
        assert_eq!(fields, expected, "{line}");
    };
    for line in &lines {
        is_in_order(line);
    }
    let seen: BTreeSet<_> = lines.iter().flat_map(|line| fields(line)).collect();
    assert_eq!(seen, documented.iter().copied().collect());
    let events: BTreeSet<_> = lines.iter().map(|line| event(line)).collect();
    let expected = column(&page, "Event | Meaning").into_iter().map(str::to_owned);
    assert_eq!(events, expected.collect());

    // The examples are as real lines with the same event and object.
    let examples: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix("    ").filter(|it| it.starts_with('{'))).collect();
    assert!(examples.len() >= 5);
    for example in examples {
        is_in_order(example);
        let is_alike = |line: &&String| event(line) == event(example) && fields(line) == fields(example);
        let alike = lines.iter().find(is_alike).unwrap_or_else(|| panic!("{example} in {lines:#?}"));
        let (alike, example): (Value, Value) =
            (serde_json::from_str(alike).unwrap(), serde_json::from_str(example).unwrap());
        for same in ["version", "principal", "url", "status", "reason", "count"] {
            let is_of_stranger = example["event"] == "refused" && same == "principal";
            assert!(is_of_stranger || alike[same] == example[same], "{same}: {alike} {example}");
        }
    }
}

#[test]
fn the_command_of_the_page_finds_the_lines_in_the_journal_whatever_rust_log_says() {
    let page = page();
    let command = page.lines().find_map(|line| line.trim().strip_prefix("journalctl ")).unwrap();
    let command = command.split_once(" | ").unwrap().1;
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let config = scratch::fresh_dir().join("config.toml");
    fs::write(&config, format!("bind = \"127.0.0.1:0\"\n{}[audit]\n", daemon.config())).unwrap();
    let mut harmonia = Harmonia::program();
    harmonia
        .arg("--config")
        .arg(config)
        .envs([("RUST_LOG", "warn,harmonia::commands=info"), ("JOURNAL_STREAM", "1:2")]);
    let mut harmonia = Harmonia::launch(harmonia);
    harmonia.terminate();
    assert!(harmonia.ended().success());
    harmonia.wait_for_log("\"stop\"");
    let mut sed = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cannot run sh");
    sed.stdin.take().unwrap().write_all(harmonia.log().as_bytes()).unwrap();
    let output = String::from_utf8(sed.wait_with_output().unwrap().stdout).unwrap();
    let found: Vec<_> = output.lines().map(event).collect();
    assert_eq!(found, ["start", "stop"], "{output}\n{}", harmonia.log());
}
