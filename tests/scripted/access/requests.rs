//! Requests with and without the right to make them, and reloads of who has which.

use std::fs;
use std::process::Command;

use crate::support::http::Response;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// Each route but /health. The others need no path that exists.
const ROUTES: [&str; 17] = [
    "/",
    "/nix-cache-info",
    "/version",
    "/ready",
    "/pubkey",
    "/metrics",
    "/00000000000000000000000000000000.narinfo",
    "/00000000000000000000000000000000.ls",
    "/nar/00000000000000000000000000000000.nar",
    "/log/00000000000000000000000000000000",
    "/debuginfo/0000000000000000000000000000000000000000",
    "/serve/00000000000000000000000000000000/",
    "/serve/00000000000000000000000000000000-name",
    "/nix/store/00000000000000000000000000000000-name",
    "/lookup?q=x",
    "/browse",
    "/no-such-url",
];

fn start(item: &StoreItem, more: &str) -> (ScriptedDaemon, Harmonia) {
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&format!("{}{more}", daemon.config()));
    (daemon, harmonia)
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", data_encoding::BASE64.encode(credentials.as_bytes()))
}

fn assert_asks_for_credentials(response: &Response, what: &str) {
    assert_eq!(response.status, 401, "{what}");
    let challenge = response.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Basic realm=\"harmonia\""), "{what}: {challenge}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(response.header("vary"), Some("authorization"), "{what}");
    assert_eq!(response.header("access-control-allow-origin"), None, "{what}");
}

#[test]
fn a_private_cache_asks_everyone_for_credentials_but_probes_of_its_health() {
    let item = StoreItem::file(b"private");
    let (_daemon, harmonia) = start(&item, "access.anonymous = []\n");
    let http = harmonia.http();
    for route in ROUTES.into_iter().chain([&*item.narinfo_url(), &*item.nar_url()]) {
        let response = http.get(route);
        assert_asks_for_credentials(&response, route);
        let text = response.text();
        assert!(text.starts_with("credentials are missing: ") && text.lines().count() == 1, "{route}: {text}");
        let head = http.head(route);
        assert_eq!((head.status, head.body.len()), (401, 0), "{route}");
    }
    for method in ["PUT", "POST", "DELETE"] {
        let raw = format!("{method} /nix-cache-info HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert_asks_for_credentials(&http.request(raw.as_bytes()).unwrap(), method);
    }
    assert_eq!(http.get("/health").status, 200);
    // A wrong password does not keep a probe from seeing that the program runs.
    assert_eq!(http.get_with("/health", &[("Authorization", &basic("a:b"))]).status, 200);
    let preflight = http.request(b"OPTIONS /nix-cache-info HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(preflight.status, 204);
}

#[test]
fn what_anybody_may_read_is_public_and_wrong_credentials_do_not_go_unnoticed() {
    let item = StoreItem::file(b"public");
    let (_daemon, harmonia) = start(&item, "access.anonymous = [\"read\"]\n");
    let http = harmonia.http();
    let narinfo = http.get(&item.narinfo_url());
    assert_eq!((narinfo.status, narinfo.header("cache-control")), (200, Some("public, max-age=3600")));
    assert_eq!(narinfo.header("access-control-allow-origin"), Some("*"));
    assert!(narinfo.header("vary").unwrap().contains("authorization"));
    assert_asks_for_credentials(&http.get("/metrics"), "/metrics");
    let all = [basic("alice:wrong"), basic("nocolon"), "Basic !".into(), "Bearer x.y.z".into(), "Digest x".into()];
    for authorization in all {
        let response = http.get_with("/nix-cache-info", &[("Authorization", &authorization)]);
        assert_asks_for_credentials(&response, &authorization[..authorization.len().min(40)]);
    }
    let twice = [("Authorization", &*basic("a:b")), ("authorization", &*basic("a:b"))];
    assert_eq!(http.get_with("/nix-cache-info", &twice).status, 400);
}

#[test]
fn without_the_table_credentials_are_ignored() {
    let item = StoreItem::file(b"open");
    let (_daemon, harmonia) = start(&item, "");
    let http = harmonia.http();
    let plain = http.get(&item.narinfo_url());
    let with = http.get_with(&item.narinfo_url(), &[("Authorization", "Basic !"), ("Authorization", "x")]);
    for name in ["cache-control", "vary", "access-control-allow-origin", "etag"] {
        assert_eq!(plain.header(name), with.header(name), "{name}");
    }
    assert_eq!((plain.status, &plain.body), (with.status, &with.body));
    assert!(plain.header("vary").is_none_or(|vary| !vary.contains("authorization")));
    assert_eq!(http.get("/metrics").status, 200);
}

#[test]
fn a_reload_replaces_the_rights_unless_the_file_is_bad() {
    let item = StoreItem::file(b"reloaded");
    let daemon = ScriptedDaemon::start(item.script());
    let file = scratch::fresh_dir().join("config.toml");
    let write =
        |access: &str| fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{}{access}", daemon.config())).unwrap();
    write("[access]\nanonymous = [\"read\"]\n");
    let mut program = Harmonia::program();
    program.arg("--config").arg(&file);
    let harmonia = Harmonia::launch(program);
    let status = || harmonia.http().get("/nix-cache-info").status;
    assert_eq!(status(), 200);
    write("[access]\nanonymous = []\n");
    harmonia.reload();
    harmonia.wait_for_log_times("reloaded access", 1);
    assert_eq!(status(), 401);
    write("[access]\nanonymous = [\"read\"]\n\n[[access.grant]]\nwho = [\"anonymous\"]\n");
    harmonia.reload();
    harmonia.wait_for_log("has no key \"may\"");
    harmonia.wait_for_log_times("reloaded access", 2);
    assert_eq!(status(), 401);
    let jwt = "[[access.jwt]]\nissuer = \"i\"\naudience = \"a\"\njwks_path = \"/nonexistent\"\n";
    write(&format!("[access]\nanonymous = [\"read\"]\n\n{jwt}"));
    harmonia.reload();
    harmonia.wait_for_log("keeping the current access: ");
    assert_eq!(status(), 401);
}

#[test]
fn passwords_without_encryption_are_warned_about() {
    let jwt = "[[access.jwt]]\nissuer = \"i\"\naudience = \"a\"\njwks_url = \"https://issuer.invalid/jwks\"\n";
    let config = scratch::fresh_dir().join("config.toml");
    for (bind, expected) in [("[::]:0", true), ("127.0.0.1:0", false)] {
        fs::write(&config, format!("bind = \"{bind}\"\ndaemon_socket = \"/nonexistent\"\n{jwt}")).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_harmonia"));
        let output = check.arg("check").arg("--config").arg(&config).env_remove("RUST_LOG").output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(log.contains("are sent without encryption"), expected, "{bind}: {log}");
    }
}
