//! Uploads that are refused: the status and a line that says why, nothing in the spool, and a server that goes on.

use super::{Cache, head, nar_target};
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;

const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

fn is_refused(cache: &Cache, target: &str, body: &[u8], (status, line): (u16, &str)) {
    let response = cache.put(target, body);
    assert_eq!(response.status, status, "{target}: {}", response.text());
    assert!(response.text().contains(line) && response.text().lines().count() == 1, "{target}: {}", response.text());
    assert_eq!(cache.spooled(), [""; 0], "{target}");
}

#[test]
fn a_file_that_is_wrong_or_too_large_does_not_come_into_the_spool() {
    let cache = Cache::start("push.max_nar_size = \"1 MiB\"");
    is_refused(&cache, &nar_target(b"a nar"), b"another", (400, "does not have the hash of its name"));
    is_refused(&cache, &nar_target(b""), &vec![0; 1_100_000], (413, "push.max_nar_size"));
    // One that does not announce its size is refused when it has reached the limit.
    let body = [&b"150000\r\n"[..], &vec![0; 0x15_0000], b"\r\n0\r\n\r\n"].concat();
    assert_eq!(cache.put_with(&nar_target(b""), "Transfer-Encoding: chunked\r\n", &body).status, 413);
    let coded = cache.put_with(&nar_target(b"x"), "Content-Encoding: gzip\r\nContent-Length: 1\r\n", b"x");
    assert_eq!(coded.status, 415);
    cache.await_empty_spool();
}

#[test]
fn a_quota_is_for_all_files_that_wait() {
    let cache = Cache::start("push.max_spool_size = \"1 MiB\"\npush.max_spool_size_per_principal = \"1 MiB\"");
    let first = vec![1; 700_000];
    assert_eq!(cache.put(&nar_target(&first), &first).status, 200);
    let full = cache.put(&nar_target(b""), &vec![2; 700_000]);
    assert_eq!((full.status, full.header("retry-after")), (503, Some("5")));
    assert!(full.text().contains("push.max_spool_size"), "{}", full.text());
    assert_eq!(cache.put(&nar_target(b""), &vec![2; 1_100_000]).status, 413);
    assert_eq!(cache.put(&nar_target(b"small"), b"small").status, 200);
}

#[test]
fn only_what_is_named_as_nix_names_it_is_received() {
    let cache = Cache::start("");
    let file = nar_target(b"a nar");
    let name = file.strip_prefix("/nar/").unwrap();
    for target in [
        format!("/nar/../{name}"),
        format!("/nar/..%2f{name}"),
        format!("/nar/%2e%2e/nar/{name}"),
        format!("/{name}"),
        format!("{file}.xz"),
        format!("/nar/{HASH}.nar.xz"),
        "/".to_owned(),
        "/metrics".to_owned(),
        "/serve/x".to_owned(),
        format!("/../{HASH}.narinfo"),
    ] {
        is_refused(&cache, &target, b"a nar", (404, "nothing can be uploaded to this URL"));
    }
    is_refused(&cache, &format!("/log/{HASH}-x.drv"), b"log", (405, "build logs cannot be pushed"));
    is_refused(&cache, "/nix-cache-info", b"StoreDir: /nix/store\n", (405, "nix-cache-info cannot be pushed"));
    // What harmonia makes itself is received, and discarded.
    assert_eq!(cache.put(&format!("/{HASH}.ls"), b"{}").status, 200);
    assert_eq!(cache.spooled(), [""; 0]);
}

#[test]
fn a_narinfo_that_is_none_is_refused_and_nix_daemon_not_asked() {
    let cache = Cache::start("");
    let target = format!("/{HASH}.narinfo");
    assert_eq!(cache.put(&target, b"no narinfo").status, 400);
    assert_eq!(cache.put(&target, &vec![b'x'; (1 << 20) + 1]).status, 413);
    let coded = |coding: &str, body: &[u8]| {
        let fields = format!("Content-Encoding: {coding}\r\nContent-Length: {}\r\n", body.len());
        cache.put_with(&target, &fields, body).status
    };
    assert_eq!((coded("lz4", b"x"), coded("zstd", b"x"), coded("identity", b"x")), (415, 400, 400));
    // A bomb ends at the size of the largest narinfo.
    let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
    assert_eq!(coded("zstd", &bomb), 413);
    assert_eq!(cache.daemon.seen().queries, []);
}

#[test]
fn a_body_whose_end_is_in_doubt_hides_no_request() {
    let cache = Cache::start("");
    let hidden = format!("GET /{HASH}.narinfo HTTP/1.1\r\nHost: c\r\n\r\n");
    for fields in [
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: +5\r\n",
    ] {
        let mut connection = cache.connect();
        connection.send(format!("{}{hidden}", head(&nar_target(b""), fields)).as_bytes()).unwrap();
        connection.shut_down();
        while connection.receive(false).is_ok() {}
    }
    assert_eq!(cache.daemon.seen().queries, []);
}

#[test]
fn without_push_nothing_is_received() {
    let daemon = ScriptedDaemon::start(Script::knowing_no_path());
    let harmonia = Harmonia::start(&daemon.config());
    let request = format!("{}x", head(&nar_target(b"x"), "Content-Length: 1\r\n"));
    assert_eq!(harmonia.http().request(request.as_bytes()).unwrap().status, 405);
    assert_eq!(harmonia.http().head(&nar_target(b"x")).status, 404);
}

#[test]
fn who_may_not_push_is_told_so_and_receives_no_answer_about_files() {
    let cache = Cache::start("");
    let daemon = &cache.daemon;
    let state = crate::support::scratch::fresh_dir();
    let config = format!(
        "{}\nstate_dir = \"{}\"\naccess.anonymous = [\"read\"]\npush.keep = \"1d\"\n",
        daemon.config(),
        state.display()
    );
    let harmonia = Harmonia::start(&config);
    let request = format!("{}x", head(&nar_target(b"x"), "Content-Length: 1\r\n"));
    let refused = harmonia.http().request(request.as_bytes()).unwrap();
    assert!(matches!(refused.status, 401 | 403), "{}", refused.status);
    assert_eq!(harmonia.http().head(&nar_target(b"x")).status, 404);
    assert_eq!(super::files(&state.join("spool")), [""; 0]);
}
