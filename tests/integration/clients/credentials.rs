//! A private cache and clients of every release: with a right password or token every command works, without one each says so.

use std::fs;
use std::process::Command;
use std::thread;

use super::commands::{Served, with_tls};
use crate::nix::client::Client;
use crate::nix::release::Release;
use crate::support::issuer::{AUDIENCE, Issuer};
use crate::support::keys;
use crate::support::scratch;

/// The password of alice, and its hash.
const PASSWORD: &str = "abcdefghijklmnopqrstuvwxyz";
const HASH: &str = "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.";

/// Returns the tables of a private cache that alice and repositories of acme may read.
fn private(issuer: &Issuer) -> String {
    let directory = scratch::fresh_dir();
    let [users, key_set] = ["users", "jwks"].map(|name| directory.join(name));
    fs::write(&users, format!("alice:{HASH}\n")).unwrap();
    fs::write(&key_set, issuer.key_set()).unwrap();
    format!(
        "[access]\nusers_file = \"{}\"\n[[access.jwt]]\nissuer = \"https://issuer\"\naudience = \"{AUDIENCE}\"\n\
         name = \"repository\"\njwks_path = \"{}\"\n[[access.grant]]\nwho = [\"user:alice\", \"jwt:acme/*\"]\nmay = [\"read\"]\n",
        users.display(),
        key_set.display()
    )
}

#[test]
fn with_a_right_password_or_token_every_command_works_over_http() {
    let (served, issuer) = (Served::new(), Issuer::new("1"));
    let harmonia = served.harmonia("127.0.0.1:0", &private(&issuer));
    let token = issuer.token("acme/app", AUDIENCE, 3600);
    for (user, password) in [("alice", PASSWORD), ("jwt", &token)] {
        let way = format!("http as {user}");
        served.works_for_all(&way, harmonia.url(), |client| client.has_password("127.0.0.1", user, password));
    }
}

#[test]
fn with_a_right_password_or_token_every_command_works_over_http_2() {
    let (served, issuer) = (Served::new(), Issuer::new("1"));
    let (tls, certificate) = with_tls();
    let harmonia = served.harmonia("127.0.0.1:0", &format!("{tls}{}", private(&issuer)));
    let token = issuer.token("acme/app", AUDIENCE, 3600);
    for (user, password) in [("alice", PASSWORD), ("jwt", &token)] {
        let way = format!("https as {user}");
        served.works_for_all(&way, harmonia.url(), |client| {
            client.trust_certificate(&certificate);
            client.has_password("127.0.0.1", user, password);
        });
    }
    let log = harmonia.log();
    assert!(log.contains("version=HTTP/2.0") && !log.contains("version=HTTP/1.1"), "{log}");
}

/// Returns what a release prints where this is the reason: up to 2.8 it shows no bodies.
fn message(release: Release, reason: &str) -> &str {
    match release {
        Release::Nix2_3 | Release::Nix2_8 => "does not appear to be a binary cache",
        Release::Nix2_26 | Release::Nix2_34 => reason,
    }
}

/// Asserts that each command of a client fails with the reason, and that nothing is copied. `prepare` sets the client up.
fn fails(served: &Served, (release, url): (Release, &str), reason: &str, prepare: impl Fn(&Client)) {
    let client = Client::new(release, url, &[&keys::OURS]);
    prepare(&client);
    let path = served.path();
    for (command, outcome) in [
        ("nix copy", client.copy(&[path])),
        ("nix-store --realise", client.realise(&[path])),
        ("nix path-info", client.nix_store("path-info", &[path])),
        ("nix store ls", client.nix_store("ls", &[path])),
        ("nix store cat", client.nix_store("cat", &[path])),
        ("nix log", client.log(path)),
    ] {
        let said = outcome.failure();
        assert!(said.contains(message(release, reason)), "{release}, {command}: {said}");
    }
    assert!(!client.has(path), "{release}: something was copied, because of {reason}");
}

#[test]
fn without_a_right_password_or_token_each_command_says_so_and_copies_nothing() {
    let (served, issuer) = (&Served::new(), &Issuer::new("1"));
    let expired = &issuer.token("acme/app", AUDIENCE, -1);
    let (tls, certificate) = &with_tls();
    thread::scope(|scope| {
        for (release, tls) in Release::ALL.into_iter().map(|release| (release, "")).chain([(Release::Nix2_34, &**tls)])
        {
            scope.spawn(move || {
                // One for each: wrong passwords slow an address down.
                let harmonia = served.harmonia("127.0.0.1:0", &format!("{tls}{}", private(issuer)));
                let cache = (release, harmonia.url());
                fails(served, cache, "credentials are missing: ", |client| client.trust_certificate(certificate));
                for (user, password, reason) in
                    [("alice", "wrong", "wrong user or password: "), ("jwt", expired, "the token has expired: ")]
                {
                    fails(served, cache, reason, |client| {
                        client.trust_certificate(certificate);
                        client.has_password("127.0.0.1", user, password);
                    });
                }
            });
        }
    });
}

#[test]
fn curl_sends_passwords_and_tokens() {
    let (served, issuer) = (Served::new(), Issuer::new("1"));
    let harmonia = served.harmonia("127.0.0.1:0", &private(&issuer));
    let url = format!("{}/nix-cache-info", harmonia.url());
    let status = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments).arg(&url);
        String::from_utf8(curl.output().expect("cannot run curl").stdout).unwrap()
    };
    let (right, wrong) = (format!("alice:{PASSWORD}"), "alice:wrong");
    let token = issuer.token("acme/app", AUDIENCE, 3600);
    assert_eq!([status(&["-u", &right]), status(&["-u", wrong]), status(&[])], ["200", "401", "401"]);
    assert_eq!(status(&["--oauth2-bearer", &token]), "200");
    assert_eq!(status(&["-u", &format!("jwt:{token}")]), "200");
    // Which asks without credentials first, and then as the 401 says.
    assert_eq!(status(&["--anyauth", "-u", &right]), "200");
}
