//! Client certificates of real clients: Nix, curl, and the TLS sessions of OpenSSL.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rcgen::{CertificateParams, date_time_ymd};

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::tls::{Authority, ClientIdentity, Tls};
use crate::support::users::users_file;

/// A private cache of the paths of a real nix-daemon, which builders and alice may read.
struct Private {
    tls: Tls,
    harmonia: Harmonia,
}

impl Private {
    fn before(daemon: &Daemon, authority: &Authority) -> Self {
        let tls = Tls::new(authority);
        let users = users_file(&[("alice", "correct-horse")]);
        let harmonia = Harmonia::start(&format!(
            "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n{}[access]\nanonymous = []\nclient_ca_path = \"{}\"\nusers_file = \"{}\"\n\
             [[access.grant]]\nwho = [\"cert:builder*\", \"user:alice\"]\nmay = [\"read\"]\n",
            daemon.socket().display(),
            keys::OURS.secret.display(),
            tls.config,
            tls.client_ca.display(),
            users.display()
        ));
        Self { tls, harmonia }
    }

    fn url(&self) -> String {
        format!("https://{}", self.harmonia.address())
    }

    /// Returns a client of this release, which names the files of this certificate in the URL of the cache.
    fn client(&self, release: Release, own: Option<&ClientIdentity>) -> Client {
        let names = "?tls-certificate=/nix/etc/client.pem&tls-private-key=/nix/etc/client.key";
        let url = format!("{}{}", self.url(), own.map_or("", |_| names));
        let client = Client::new(release, &url, &[&keys::OURS]);
        client.trust_certificate(&self.tls.server_pem);
        if let Some(own) = own {
            client.has_certificate(&own.certificate_pem, &own.key_pem);
        }
        client
    }

    /// Runs curl with this certificate and these arguments, and returns what it prints: the status and the version of HTTP, a line
    /// for each response.
    fn curl(&self, own: Option<&ClientIdentity>, arguments: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{http_version}\n",
        ]);
        curl.arg("--cacert").arg(written("server.pem", &self.tls.server_pem));
        if let Some(own) = own {
            curl.arg("--cert").arg(written("client.pem", &own.certificate_pem));
            curl.arg("--key").arg(written("client.key", &own.key_pem));
        }
        let url = format!("{}/nix-cache-info", self.url());
        curl.args(arguments).arg(url).stdin(Stdio::null()).output().expect("cannot run curl")
    }
}

fn written(name: &str, text: &str) -> PathBuf {
    let file = scratch::fresh_dir().join(name);
    fs::write(&file, text).unwrap();
    file
}

fn expired(authority: &Authority) -> ClientIdentity {
    authority.issue_with("builder1", |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1))
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[test]
fn nix_2_34_reads_a_private_cache_with_a_client_certificate() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let ours = Authority::new();
    let cache = Private::before(daemon, &ours);
    let client = cache.client(Release::Nix2_34, Some(&ours.issue("builder1")));
    let path = daemon.content().path("many-references");
    let _ = client.copy(&[path]).stdout();
    assert!(client.verified_closure(&[path]).len() > 300);
    assert!(client.nix_store("ls", &["--recursive", path]).succeeded());
    // As builds do it, by the URL in nix.conf.
    let other = daemon.content().path("large");
    let _ = client.realise(&[other]).stdout();
    assert!(client.has(other));
}

#[test]
fn nix_2_34_says_so_and_copies_nothing_without_the_right_certificate() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let (ours, strange) = (Authority::new(), Authority::new());
    let cache = Private::before(daemon, &ours);
    let path = daemon.content().path("large");
    for (own, expected) in [
        (None, "HTTP error 401"),
        (Some(ours.issue("mallory")), "HTTP error 403"),
        (Some(ours.issue("builder*")), "HTTP error 401"),
        (Some(strange.issue("builder1")), "unable to download"),
        (Some(expired(&ours)), "unable to download"),
    ] {
        let client = cache.client(Release::Nix2_34, own.as_ref());
        let message = client.copy(&[path]).failure();
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(!client.has(path));
        let _ = client.realise(&[path]).failure();
        assert!(!client.has(path));
    }
}

#[test]
fn older_nix_sends_no_certificate_and_a_password_works_beside_certificates() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let ours = Authority::new();
    let cache = Private::before(daemon, &ours);
    let path = daemon.content().path("many-references");
    for release in [Release::Nix2_3, Release::Nix2_8, Release::Nix2_26] {
        let client = cache.client(release, Some(&ours.issue("builder1")));
        let _ = client.copy(&[path]).failure();
        assert!(!client.has(path), "{release}");
    }
    for release in Release::ALL {
        let client = cache.client(release, None);
        client.has_password("127.0.0.1", "alice", "correct-horse");
        let _ = client.copy(&[path]).stdout();
        assert!(client.verified_closure(&[path]).len() > 300, "{release}");
    }
}

#[test]
fn curl_is_served_by_its_certificate_over_both_versions_of_http_and_tls() {
    let ours = Authority::new();
    let cache = Private::before(Daemon::shared(Release::Nix2_34), &ours);
    let builder = ours.issue("builder1");
    for (version, number) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in ["1.2", "1.3"] {
            let arguments = [version, "--tls-max", tls];
            let output = cache.curl(Some(&builder), &arguments);
            assert_eq!(text(&output.stdout), format!("200 {number}\n"), "{}", text(&output.stderr));
            assert_eq!(text(&cache.curl(None, &arguments).stdout), format!("401 {number}\n"));
            assert_eq!(text(&cache.curl(Some(&ours.issue("mallory")), &arguments).stdout), format!("403 {number}\n"));
            for own in [&Authority::new().issue("builder1"), &expired(&ours)] {
                let output = cache.curl(Some(own), &arguments);
                assert!(!output.status.success() && text(&output.stdout).starts_with("000 "), "{output:?}");
            }
            // A password on a connection without a certificate, and a wrong one beside the right certificate.
            let with = |password| [&arguments[..], &["--user", password]].concat();
            assert_eq!(text(&cache.curl(None, &with("alice:correct-horse")).stdout), format!("200 {number}\n"));
            assert_eq!(text(&cache.curl(Some(&builder), &with("alice:wrong")).stdout), format!("401 {number}\n"));
        }
    }
}

/// Runs `openssl s_client` with this session file and certificate until the response has ended; returns what it prints.
fn openssl(cache: &Private, own: &ClientIdentity, version: &str, session: &[&str]) -> String {
    let script = r#"printf 'GET /nix-cache-info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' | openssl s_client -ign_eof "$@" 2>&1"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", "-connect", &cache.harmonia.address().to_string(), version]);
    shell.arg("-CAfile").arg(written("server.pem", &cache.tls.server_pem));
    shell.arg("-cert").arg(written("client.pem", &own.certificate_pem));
    shell.arg("-key").arg(written("client.key", &own.key_pem));
    text(&shell.args(session).stdin(Stdio::null()).output().expect("cannot run sh").stdout)
}

#[test]
fn a_saved_session_does_not_let_in_who_was_issued_by_an_authority_that_is_gone() {
    let (old, new) = (Authority::new(), Authority::new());
    let cache = Private::before(Daemon::shared(Release::Nix2_34), &old);
    let of_old = old.issue("builder1");
    let sessions = ["-tls1_2", "-tls1_3"].map(|version| (version, scratch::fresh_dir().join("session")));
    for (version, session) in &sessions {
        let session = session.to_str().unwrap();
        let first = openssl(&cache, &of_old, version, &["-sess_out", session]);
        assert!(first.contains("HTTP/1.1 200 OK") && first.contains("New, TLSv1."), "{first}");
        if fs::exists(session).unwrap() {
            let again = openssl(&cache, &of_old, version, &["-sess_in", session]);
            assert!(again.contains("HTTP/1.1 200 OK") && again.contains("New, TLSv1."), "{again}");
        }
    }
    fs::write(&cache.tls.client_ca, new.pem()).unwrap();
    cache.harmonia.reload();
    cache.harmonia.wait_for_log("reloaded the authorities of client certificates");
    for (version, session) in &sessions {
        let saved = ["-sess_in", session.to_str().unwrap()];
        let saved = if session.exists() { &saved[..] } else { &[] };
        let refused = openssl(&cache, &of_old, version, saved);
        assert!(!refused.contains("HTTP/1.1") && refused.contains("alert"), "{refused}");
        let renewed = openssl(&cache, &new.issue("builder1"), version, saved);
        assert!(renewed.contains("HTTP/1.1 200 OK"), "{renewed}");
    }
}
