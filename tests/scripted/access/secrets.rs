//! Credentials are in no log, no metric and no response, however verbose the log is and whatever is wrong with them.

use std::fs;

use data_encoding::BASE64;
use serde_json::json;

use crate::support::http2_frames::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, frame, request};
use crate::support::issuer::{AUDIENCE, Issuer, now};
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// Hash of the password "abcdefghijklmnopqrstuvwxyz", and its part that a log must not have.
const HASH: &str = "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.";
const PASSWORD: &str = "abcdefghijklmnopqrstuvwxyz";

/// Returns headers with all kinds of credentials, and the texts in them that are secrets.
fn credentials(issuer: &Issuer) -> (Vec<String>, Vec<String>) {
    let expired = json!({"iss": "https://issuer", "aud": AUDIENCE, "exp": now() - 1, "repository": "acme/app"});
    let tokens = [
        issuer.token("acme/app", AUDIENCE, 300),
        Issuer::new("1").token("acme/app", AUDIENCE, 300),
        issuer.token("acme/app", "https://other", 300),
        issuer.signed(&json!({"alg": "ES256", "kid": "1"}), &expired),
        issuer.signed(&json!({"alg": "none", "x": "a secret of a header"}), &expired),
    ];
    let named = [
        format!("alice:{PASSWORD}"),
        "alice:a wrong password".to_owned(),
        "a password for a name:x".to_owned(),
        "nocolon-secret".to_owned(),
        "alice:nul-secret\0".to_owned(),
        format!("jwt:{}", tokens[0]),
        format!("jwt:{}", tokens[1]),
    ];
    let encoded: Vec<_> = named.iter().map(|text| BASE64.encode(text.as_bytes())).collect();
    let mut headers: Vec<_> = tokens.iter().map(|token| format!("Bearer {token}")).collect();
    headers.extend(encoded.iter().map(|text| format!("Basic {text}")));
    let others = ["Basic not-base64-secret!", "Bearer a secret of two words", "Digest digest-secret", "lone-secret"];
    headers.extend(others.map(str::to_owned));
    let parts = tokens.iter().flat_map(|token| token.split('.')).filter(|part| !part.is_empty()).map(str::to_owned);
    let mut secrets: Vec<_> = parts.chain(encoded).collect();
    let plain = [PASSWORD, "wrong password", "password for a name", "secret", &HASH[7..]];
    secrets.extend(plain.map(str::to_owned));
    (headers, secrets)
}

#[test]
fn no_log_no_metric_and_no_response_holds_a_credential() {
    let item = StoreItem::file(b"private");
    let daemon = ScriptedDaemon::start(item.script());
    let issuer = Issuer::new("1");
    let directory = scratch::fresh_dir();
    let [config, users, key_set, access_log, audit_log] =
        ["config.toml", "users", "jwks", "access.log", "audit.log"].map(|name| directory.join(name));
    fs::write(&users, format!("alice:{HASH}\n")).unwrap();
    fs::write(&key_set, issuer.key_set()).unwrap();
    let text = format!(
        "bind = \"127.0.0.1:0\"\n{}access_log.file = \"{}\"\naccess_log.format = \"json\"\naudit.file = \"{}\"\n[access]\n\
         anonymous = [\"metrics\"]\nusers_file = \"{}\"\n[[access.jwt]]\nissuer = \"https://issuer\"\n\
         audience = \"{AUDIENCE}\"\nname = \"repository\"\njwks_path = \"{}\"\n[[access.grant]]\n\
         who = [\"user:*\", \"jwt:acme/*\"]\nmay = [\"read\"]\n",
        daemon.config(),
        access_log.display(),
        audit_log.display(),
        users.display(),
        key_set.display()
    );
    fs::write(&config, text).unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(&config).env("RUST_LOG", "trace");
    let mut harmonia = Harmonia::launch(program);
    let http = harmonia.http();

    let (headers, mut secrets) = credentials(&issuer);
    let mut shown = String::new();
    let mut statuses = Vec::new();
    for (header, address) in headers.iter().zip(1..) {
        // An address of its own, whose failures slow down no other.
        let http = http.from([127, 0, 1, address]);
        for url in [item.narinfo_url(), item.nar_url(), "/no-such-url".to_owned()] {
            let response = http.get_with(&url, &[("Authorization", header)]);
            shown.extend(response.headers.iter().flat_map(|(name, value)| [name, value]).map(String::as_str));
            shown += &String::from_utf8_lossy(&response.body);
        }
        let twice = http.get_with("/", &[("Authorization", header), ("Authorization", header)]);
        assert_eq!(twice.status, 400);
        shown += twice.text();
        let put = format!("PUT {} HTTP/1.1\r\nHost: h\r\nAuthorization: {header}\r\n\r\n", item.narinfo_url());
        shown += http.request(put.as_bytes()).unwrap().text();
        let mut connection = RawHttp2::open(harmonia.address());
        let block = request("GET", &item.narinfo_url(), &[("authorization", header)]);
        assert!(connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)));
        statuses.push(connection.finish().statuses()[0].1);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    // In the place where a browser takes them from.
    let raw = b"GET http://alice:url-secret@h/nix-cache-info HTTP/1.1\r\nHost: h\r\n\r\n";
    shown += http.request(raw).unwrap().text();

    for (file, bad, said) in [
        (&users, "alice:users-file-secret\n", ":1: user \"alice\": the password is in another format"),
        (&users, "users-file-secret\n", ":1: no colon ends a name"),
        (&key_set, r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "d": "key-secret", "x": "AA"}]}"#, "a private key"),
        (&key_set, r#"{"keys": "key-secret"}"#, "no array \"keys\" in it"),
        (&key_set, "key-secret", "cannot use the keys of \"https://issuer\""),
    ] {
        let before = fs::read(file).unwrap();
        fs::write(file, bad).unwrap();
        harmonia.reload();
        harmonia.wait_for_log(said);
        fs::write(file, before).unwrap();
    }
    shown += http.get("/metrics").text();
    harmonia.terminate();
    assert!(harmonia.ended().success());
    let logs = [access_log, audit_log].map(|file| fs::read_to_string(file).unwrap());
    assert!(logs.iter().all(|log| log.contains("user:alice") && log.contains("jwt:acme/app")), "{logs:?}");
    shown += &logs.concat();
    shown += &harmonia.log();
    assert!(shown.contains(" TRACE ") && shown.contains("harmonia_password_checks_total"), "{shown}");
    secrets.push(fs::read_to_string(users).unwrap().trim().to_owned());
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret:?} is in:\n{shown}");
    }
}
