//! Access log: its fields, rotation, and that no request waits for it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use serde_json::Value;

use crate::support::http::{Connection, Http};
use crate::support::log_file::lines;
use crate::support::metrics::{await_that, metrics, value};
use crate::support::narinfo::value as field;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::wire::Wire;

const DROPPED: &str = "harmonia_access_log_dropped_total";

struct Logged {
    item: StoreItem,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
    file: PathBuf,
}

impl Logged {
    fn start(item: StoreItem, script: Script, more: &str) -> Self {
        let daemon = ScriptedDaemon::start(script);
        let file = scratch::fresh_dir().join("access.log");
        let config =
            format!("{}{}{more}access_log.file = \"{}\"\n", daemon.config(), nar_cache_on_demand(), file.display());
        let harmonia = Harmonia::start(&config);
        Self { item, daemon, harmonia, file }
    }

    fn http(&self) -> Http {
        self.harmonia.http()
    }
}

#[test]
fn each_response_is_a_line_with_its_outcome() {
    let item = StoreItem::file(b"logged");
    let logged = Logged::start(item.clone(), item.script(), "access_log.format = \"json\"\n");
    let http = logged.http();
    let agent = ("User-Agent", "curl/8.4.0 Nix/2.18.1");
    let narinfo = http.get_with(&item.narinfo_url(), &[agent]);
    let compressed = format!("/{}", field(narinfo.text(), "URL"));
    let _ = http.get(&item.narinfo_url());
    let nar = http.get(&item.nar_url());
    let sent = [http.get(&compressed).body.len(), http.get(&compressed).body.len()];
    let secret = ("Authorization", "Basic c2VjcmV0");
    let missing = http.get_with(&format!("/{}.narinfo?token=secret", "1".repeat(32)), &[secret]);
    let _ = http.head(&item.nar_url());
    let text = lines(&logged.file, 7);
    let lines: Vec<Value> = text.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let path = item.path.strip_prefix("/nix/store/").unwrap();
    for (at, target, status, bytes, cache, reason) in [
        (0, &*item.narinfo_url(), 200, narinfo.body.len(), Some("miss"), None),
        (1, &*item.narinfo_url(), 200, narinfo.body.len(), Some("hit"), None),
        (2, &*item.nar_url(), 200, nar.body.len(), None, None),
        (3, &*compressed, 200, sent[0], Some("miss"), None),
        (4, &*compressed, 200, sent[1], Some("hit"), None),
        (5, &*format!("/{}.narinfo", "1".repeat(32)), 404, missing.body.len(), Some("miss"), Some("not_valid")),
        (6, &*item.nar_url(), 200, 0, None, None),
    ] {
        let line = &lines[at];
        assert_eq!((&line["target"], &line["status"]), (&target.into(), &status.into()), "{line}");
        assert_eq!((line["bytes"].as_u64(), line["cache"].as_str()), (Some(bytes as u64), cache), "{line}");
        assert_eq!((line["reason"].as_str(), &line["client"]), (reason, &"127.0.0.1".into()), "{line}");
        assert_eq!(line["store_path"].as_str(), (status == 200).then_some(path), "{line}");
        assert!(line["seconds"].as_f64() >= line["first_byte_seconds"].as_f64(), "{line}");
        assert!(line.get("aborted_by").is_none() && !line["request_id"].as_str().unwrap().is_empty(), "{line}");
    }
    assert_eq!((&lines[0]["user_agent"], &lines[6]["method"]), (&agent.1.into(), &"HEAD".into()));
    assert!(!text.concat().contains("c2VjcmV0") && !text.concat().contains("token"), "{text:?}");
}

#[test]
fn a_request_is_that_of_the_proxys_client_and_has_the_id_that_a_proxy_gave_it() {
    let item = StoreItem::file(b"");
    let script = Script::replying(|_| Wire::new().error("no").into());
    let logged = Logged::start(item, script, "trusted_proxies = [\"127.0.0.2\"]\n");
    let url = logged.item.narinfo_url();
    let ask = |source, id: &str| {
        let headers = [("X-Forwarded-For", "10.0.0.1, 2001:db8::7"), ("X-Request-Id", id), ("User-Agent", "a\"b\\c")];
        logged.http().from(source).get_with(&url, &headers)
    };
    let trusted = ask([127, 0, 0, 2], "from-proxy_1.2");
    let stranger = ask([127, 0, 0, 1], "from-proxy_1.2");
    let forged = ask([127, 0, 0, 2], "a b\"from-proxy");
    let lines = lines(&logged.file, 3);
    for (line, response, client) in
        [(&lines[0], &trusted, "2001:db8::7"), (&lines[1], &stranger, "127.0.0.1"), (&lines[2], &forged, "2001:db8::7")]
    {
        let id = response.header("x-request-id").unwrap();
        assert!(line.starts_with(&format!("{client} - - [")), "{line}");
        assert!(line.ends_with(&format!(" miss daemon_error {id}")), "{line}");
        assert!(line.contains(" 502 ") && line.contains(r#""a\x22b\x5cc""#), "{line}");
        assert!(logged.harmonia.wait_for_log("answered 502").contains("request "), "{}", logged.harmonia.log());
    }
    assert_eq!(trusted.header("x-request-id"), Some("from-proxy_1.2"));
    assert!([&stranger, &forged].iter().all(|it| !it.header("x-request-id").unwrap().contains("proxy")));
    assert!(logged.harmonia.log().contains("request from-proxy_1.2 for "), "{}", logged.harmonia.log());
}

#[test]
fn the_line_of_an_aborted_body_names_who_aborted_it() {
    let item = StoreItem::file_of(8 << 20);
    let good = item.clone();
    let script = Script::replying(move |query| match query {
        Query::Nar(_) => Reply::then_disconnect(&good.reply(query).bytes[..4 << 20]),
        _ => good.reply(query),
    });
    let logged = Logged::start(item.clone(), script, "");
    let _ = logged.http().get_failing(&item.nar_url(), &[]);
    assert!(lines(&logged.file, 1)[0].contains(" - aborted_by_server "), "{:?}", lines(&logged.file, 1));
    logged.daemon.play(item.script());
    let mut connection = logged.http().connect_narrow().unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: c\r\n\r\n", item.nar_url());
    connection.send(request.as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    drop(connection);
    assert!(lines(&logged.file, 2)[1].contains(" - aborted_by_client "), "{:?}", lines(&logged.file, 2));
}

#[test]
fn sighup_reopens_a_rotated_log_without_losing_a_line() {
    let item = StoreItem::file(b"");
    let logged = Logged::start(item.clone(), item.script(), "");
    let moved = logged.file.with_extension("1");
    let _ = logged.http().get("/health");
    fs::rename(&logged.file, &moved).unwrap();
    let _ = logged.http().get("/version");
    // A line that is still queued would go to the new file.
    let before = lines(&moved, 2);
    logged.harmonia.reload();
    logged.harmonia.wait_for_log("INFO reopened the access log");
    let _ = logged.http().get("/nix-cache-info");
    assert!(lines(&logged.file, 1)[0].contains("/nix-cache-info"));
    assert!(before[0].contains("\"GET /health ") && before[1].contains("\"GET /version "), "{before:?}");
    // Where it cannot be opened the one in use stays.
    fs::rename(&logged.file, logged.file.with_extension("2")).unwrap();
    fs::create_dir(&logged.file).unwrap();
    logged.harmonia.reload();
    let error = logged.harmonia.wait_for_log("ERROR reopening failed, keeping the current access log: ");
    assert!(error.contains("cannot open the access log "), "{error}");
    let _ = logged.http().get("/health");
    assert_eq!(lines(&logged.file.with_extension("2"), 2).len(), 2);
}

#[test]
fn a_blocked_log_delays_no_response_and_dropped_lines_are_counted() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let config = scratch::fresh_dir().join("config.toml");
    let text = format!("bind = \"127.0.0.1:0\"\n{}access_log.enable = true\n", daemon.config());
    fs::write(&config, text).unwrap();
    let (unread, writer) = UnixStream::pair().unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(config).stdout(OwnedFd::from(writer));
    let harmonia = Harmonia::launch(program);
    // More than the pipe and the queue take.
    let mut connection = Connection::open(harmonia.address()).unwrap();
    for _ in 0..120 {
        connection.send("GET /health HTTP/1.1\r\nHost: c\r\n\r\n".repeat(100).as_bytes()).unwrap();
        for _ in 0..100 {
            assert_eq!(connection.receive(false).unwrap().status, 200);
        }
    }
    await_that(harmonia.http(), DROPPED, |lines| lines > Some(0.0));
    let line = harmonia.wait_for_log("dropped a line of the access log");
    assert!(line.contains("WARN"), "{line}");
    // Then it is read, and all else is there.
    let reader = thread::spawn(move || std::io::read_to_string(unread).unwrap());
    let mut harmonia = harmonia;
    let dropped = value(&metrics(harmonia.http()), DROPPED).unwrap();
    harmonia.terminate();
    assert!(harmonia.ended().success());
    let text = {
        drop(harmonia);
        reader.join().unwrap()
    };
    let written = text.lines().filter(|line| line.contains("\"GET /health HTTP/1.1\" 200 3 ")).count();
    assert!(f64::from(u32::try_from(written).unwrap()) + dropped >= 12_000.0, "{written} and {dropped}");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_start() {
    let item = StoreItem::file(b"");
    let daemon = ScriptedDaemon::start(item.script());
    for (path, cause) in [("/nonexistent/access.log", "No such file or directory"), ("/", "Is a directory")] {
        let config = scratch::fresh_dir().join("config.toml");
        let text = format!("bind = \"127.0.0.1:0\"\n{}access_log.file = {path:?}\n", daemon.config());
        fs::write(&config, text).unwrap();
        let output = Harmonia::program().arg("--config").arg(config).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{log}");
        assert!(log.contains(&format!("cannot open the access log {path}: {cause}")), "{log}");
        assert!(log.contains("\n  help: "), "{log}");
    }
}

#[test]
fn without_an_access_log_there_is_neither_line_nor_thread() {
    let item = StoreItem::file(b"");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    assert_eq!(harmonia.http().get("/health").status, 200);
    let threads = fs::read_dir(format!("/proc/{}/task", harmonia.pid())).unwrap();
    for thread in threads {
        let name = fs::read_to_string(thread.unwrap().path().join("comm")).unwrap();
        assert_ne!(name.trim(), "access log");
    }
    assert_eq!(value(&metrics(harmonia.http()), DROPPED), Some(0.0));
}
