//! The audit log: who is recorded and how, rotation, and what happens if it cannot be written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::log_file::events;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::tls::{Authority, ClientIdentity, Tls};
use crate::support::users::{basic, users_file};

fn names(file: &Path, count: usize) -> Vec<String> {
    events(file, count).iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

/// A cache that alice may read, and whose reads are recorded.
struct Audited {
    item: StoreItem,
    tls: Tls,
    harmonia: Harmonia,
    _daemon: ScriptedDaemon,
}

impl Audited {
    fn start(authority: &Authority, anonymous: &str, audit: &str) -> Self {
        let item = StoreItem::file(b"audited");
        let daemon = ScriptedDaemon::start(item.script());
        let tls = Tls::new(authority);
        let config = format!(
            "{}{}[access]\nanonymous = {anonymous}\nclient_ca_path = \"{}\"\n[[access.grant]]\nwho = [\"cert:alice\"]\n\
             may = [\"read\"]\n[audit]\n{audit}",
            daemon.config(),
            tls.config,
            tls.client_ca.display()
        );
        let harmonia = Harmonia::start(&config);
        Self { item, tls, harmonia, _daemon: daemon }
    }

    async fn get(&self, own: Option<&ClientIdentity>, path: &str) -> u16 {
        self.get_with(own, path, "").await.0
    }

    async fn get_with(&self, own: Option<&ClientIdentity>, path: &str, headers: &str) -> (u16, String) {
        self.tls.get(self.harmonia.address(), own, path, headers).await.unwrap()
    }
}

fn file() -> PathBuf {
    scratch::fresh_dir().join("audit.log")
}

#[tokio::test]
async fn what_principals_read_and_who_was_refused_is_recorded_and_no_secret() {
    let authority = Authority::new();
    let file = file();
    let mut cache = Audited::start(&authority, "[]", &format!("file = \"{}\"\n", file.display()));
    let (alice, bob) = (authority.issue("alice"), authority.issue("bob"));
    let (narinfo, nar) = (cache.item.narinfo_url(), cache.item.nar_url());
    let mut bytes = 0;
    for url in [&narinfo, &nar, &narinfo] {
        let (status, text) = cache.get_with(Some(&alice), url, "").await;
        assert_eq!(status, 200);
        bytes += text.split_once("\r\n\r\n").unwrap().1.len();
    }
    assert_eq!(cache.get(Some(&alice), "/nix-cache-info?token=secret").await, 200);
    assert_eq!(cache.get(Some(&alice), &format!("/{}.narinfo", "1".repeat(32))).await, 404);
    let secret = "Authorization: Basic YWxpY2U6c2VjcmV0\r\nX-Token: secret\r\n";
    assert_eq!(cache.get_with(None, &narinfo, secret).await.0, 401);
    for url in [&nar, &narinfo] {
        assert_eq!(cache.get(None, url).await, 401);
    }
    assert_eq!(cache.get(Some(&bob), &nar).await, 403);
    assert_eq!(cache.get(None, "/health").await, 200);
    cache.harmonia.terminate();
    assert!(cache.harmonia.ended().success());

    let events = events(&file, 7);
    let all: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(all, ["start", "read", "read", "refused", "refused", "refused", "stop"]);
    let path = &events[1];
    assert_eq!((&path["principal"], &path["address"]), (&"cert:alice".into(), &"127.0.0.1".into()));
    assert_eq!((&path["path"], &path["count"]), (&cache.item.path.clone().into(), &3.into()));
    assert_eq!((&path["status"], &path["bytes"]), (&200.into(), &bytes.into()));
    assert!(!path["request_id"].as_str().unwrap().is_empty());
    assert_eq!((&events[2]["url"], events[2].get("count")), (&"/nix-cache-info".into(), None));
    let wrong = &events[3];
    assert_eq!((&wrong["reason"], wrong.get("count")), (&"wrong user or password".into(), None));
    let anonymous = &events[4];
    assert_eq!((&anonymous["principal"], &anonymous["status"]), (&"anonymous".into(), &401.into()));
    assert_eq!((&anonymous["url"], &anonymous["count"]), (&nar.clone().into(), &2.into()));
    assert_eq!(anonymous["reason"], "credentials are missing");
    let forbidden = &events[5];
    assert_eq!(forbidden["reason"], "lacks the right to read");
    assert_eq!((&forbidden["principal"], &forbidden["status"]), (&"cert:bob".into(), &403.into()));
    assert_eq!(forbidden["url"], *nar);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains("secret") && !text.contains("YWxpY2U6"), "{text}");
}

#[test]
fn a_download_that_the_end_of_the_program_cuts_is_recorded_with_what_was_sent() {
    let item = StoreItem::file_of(64 << 20);
    let daemon = ScriptedDaemon::start(item.script());
    let (users, file) = (users_file(&[("alice", "correct-horse")]), file());
    let mut harmonia = Harmonia::start(&format!(
        "{}shutdown_timeout = 1\n[access]\nanonymous = []\nusers_file = \"{}\"\n[[access.grant]]\nwho = [\"user:alice\"]\n\
         may = [\"read\"]\n[audit]\nfile = \"{}\"\n",
        daemon.config(),
        users.display(),
        file.display()
    ));
    let mut reader = harmonia.http().connect_narrow().unwrap();
    let credentials = basic("alice", "correct-horse");
    let head = format!("GET {} HTTP/1.1\r\nHost: c\r\nAuthorization: {credentials}\r\n\r\n", item.nar_url());
    reader.send(head.as_bytes()).unwrap();
    assert_eq!(reader.read(100_000).unwrap().len(), 100_000);
    harmonia.terminate();
    let _ = harmonia.ended();
    let events = events(&file, 3);
    let read = events.iter().find(|event| event["event"] == "read").unwrap();
    let bytes = read["bytes"].as_u64().unwrap();
    assert!(bytes >= 99_000 && bytes < item.nar_size, "{read}");
    assert_eq!((&read["principal"], &read["path"]), (&"user:alice".into(), &item.path.into()));
}

#[tokio::test]
async fn sighup_reopens_a_rotated_log() {
    let file = file();
    let cache = Audited::start(&Authority::new(), "[]", &format!("file = \"{}\"\n", file.display()));
    let moved = file.with_extension("1");
    assert_eq!(names(&file, 1), ["start"]);
    fs::rename(&file, &moved).unwrap();
    cache.harmonia.reload();
    assert_eq!(names(&file, 1), ["reload"]);
    assert_eq!(names(&moved, 1), ["start"]);
    // Where it cannot be opened the one in use stays.
    fs::rename(&file, file.with_extension("2")).unwrap();
    fs::create_dir(&file).unwrap();
    cache.harmonia.reload();
    let error = cache.harmonia.wait_for_log("ERROR reopening failed, keeping the current audit log: ");
    assert!(error.contains("cannot open the audit log "), "{error}");
    assert_eq!(names(&file.with_extension("2"), 2), ["reload", "reload"]);
}

#[tokio::test]
async fn on_a_full_disk_what_would_be_recorded_is_refused_until_there_is_space() {
    let authority = Authority::new();
    let file = file();
    symlink("/dev/full", &file).unwrap();
    let audit = format!("file = \"{}\"\non_failure = \"refuse\"\n", file.display());
    let cache = Audited::start(&authority, "[\"read\"]", &audit);
    cache.harmonia.wait_for_log("ERROR cannot write the audit log: No space left on device");
    let (alice, url) = (authority.issue("alice"), cache.item.narinfo_url());
    let (status, text) = cache.get_with(Some(&alice), &url, "").await;
    assert!(status == 503 && text.contains("the audit log of this cache cannot be written"), "{text}");
    // What is not recorded goes on.
    assert_eq!(cache.get(None, &url).await, 200);
    assert_eq!(cache.get(None, "/health").await, 200);
    fs::remove_file(&file).unwrap();
    cache.harmonia.reload();
    cache.harmonia.wait_for_log("the audit log is written again");
    assert_eq!(cache.get(Some(&alice), &url).await, 200);
    assert_eq!(names(&file, 2), ["start", "reload"]);
}

#[tokio::test]
async fn on_a_full_disk_lines_are_dropped_and_counted_where_the_operator_wants_it() {
    let authority = Authority::new();
    let cache = Audited::start(&authority, "[\"read\", \"metrics\"]", "file = \"/dev/full\"\n");
    let line = cache.harmonia.wait_for_log("lost 1 lines of the audit log: No space left on device");
    assert!(line.contains("ERROR"), "{line}");
    assert_eq!(cache.get(Some(&authority.issue("alice")), &cache.item.narinfo_url()).await, 200);
    let (_, metrics) = cache.get_with(None, "/metrics", "").await;
    assert!(metrics.contains("\nharmonia_audit_log_dropped_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn without_a_file_lines_go_to_the_log() {
    let cache = Audited::start(&Authority::new(), "[]", "");
    let line = cache.harmonia.wait_for_log("\"event\":\"start\"");
    assert!(line.contains("INFO {\"time\":\""), "{line}");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_start() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let config = scratch::fresh_dir().join("config.toml");
    let text = format!("bind = \"127.0.0.1:0\"\n{}[audit]\nfile = \"/nonexistent/audit.log\"\n", daemon.config());
    fs::write(&config, text).unwrap();
    let output = Harmonia::program().arg("--config").arg(config).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(log.contains("cannot open the audit log /nonexistent/audit.log: No such file"), "{log}");
    assert!(log.contains("\n  help: "), "{log}");
}
