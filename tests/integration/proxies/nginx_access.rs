//! `docs/guide/nginx.conf` with its commented lines enabled: https with HTTP/2, and passwords.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::clients::documented_commands::block;
use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::proxies::caching_proxy::Proxy as _;
use crate::proxies::nginx::Nginx;
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;

/// Error of Nix up to 2.8 for a cache that it may not read.
const NO_CACHE: &str = "does not appear to be a binary cache";

/// Starts nginx that requires this password, set up with the commands of the guide.
fn asking_for_passwords(upstream: &str, password: &str) -> Nginx {
    let dir = scratch::fresh_dir();
    let conf_d = dir.join("conf.d");
    fs::create_dir(&conf_d).unwrap();
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/nginx.conf");
    let after = conf_d.join("harmonia.conf");
    fs::copy(&before, &after).unwrap();
    let mut commands =
        block("proxies.md", "Passwords and https with nginx", 2).replace("/etc/nginx", dir.to_str().unwrap());
    for (written, here) in [
        ("openssl passwd -6", format!("openssl passwd -6 {password}")),
        // The worker here is of this user.
        ("chgrp www-data", "true".to_owned()),
        ("nginx -t && systemctl reload nginx\n", String::new()),
    ] {
        assert_eq!(commands.matches(written).count(), 1, "{written} in {commands}");
        commands = commands.replace(written, &here);
    }
    let status = Command::new("bash").args(["-euc", &commands]).status().expect("cannot run bash");
    assert!(status.success(), "{commands}");
    let (before, after) = (fs::read_to_string(before).unwrap(), fs::read_to_string(after).unwrap());
    let mut changes: Vec<_> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    assert_eq!(changes.len(), 3, "{changes:?}");
    let file = changes[1].1.replace("/etc/nginx", dir.to_str().unwrap());
    changes[1].1 = &file;
    Nginx::with(upstream, &changes)
}

#[test]
fn every_release_of_nix_takes_the_password_from_its_netrc_file() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let harmonia = Harmonia::for_daemon(daemon);
    let nginx = asking_for_passwords(&harmonia.address().to_string(), "s3cret");
    let path = daemon.content().path("many-references");
    for release in Release::ALL {
        let client = Client::new(release, &format!("http://{}", nginx.address()), &[&keys::OURS]);
        client.has_password("127.0.0.1", "builder", "s3cret");
        let _ = client.copy(&[path]).stdout();
        assert!(client.verified_closure(&[path]).len() > 300, "{release}");
    }
}

#[test]
fn without_the_password_there_is_nothing_not_even_from_the_cache_of_nginx() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let harmonia = Harmonia::for_daemon(daemon);
    let nginx = asking_for_passwords(&harmonia.address().to_string(), "s3cret");
    let url = format!("http://{}", nginx.address());
    let path = daemon.content().path("large");
    let known = Client::new(Release::Nix2_34, &url, &[&keys::OURS]);
    known.has_password("127.0.0.1", "builder", "s3cret");
    let _ = known.copy(&[path]).stdout();
    for release in Release::ALL {
        let stranger = Client::new(release, &url, &[&keys::OURS]);
        let message = stranger.copy(&[path]).failure();
        let expected =
            if release == Release::Nix2_26 || release == Release::Nix2_34 { "HTTP error 401" } else { NO_CACHE };
        assert!(message.contains(expected), "{release}: {message}");
        assert!(!stranger.has(path), "{release}");
        let mistaken = Client::new(release, &url, &[&keys::OURS]);
        mistaken.has_password("127.0.0.1", "builder", "secret");
        let _ = mistaken.copy(&[path]).failure();
    }
    for url in ["/nix-cache-info", "/", "/metrics", "/nar/x.nar"] {
        let status = nginx.http().get(url).status;
        assert!(matches!(status, 401 | 404), "{url}: {status}");
    }
}

#[test]
fn nix_copies_a_closure_by_http_2_through_nginx() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let dir = scratch::fresh_dir();
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let daemon = Daemon::shared(Release::Nix2_34);
    let harmonia = Harmonia::for_daemon(daemon);
    let version = Command::new("nginx").arg("-v").env("PATH", "/usr/sbin:/usr/bin").output().unwrap();
    let version = String::from_utf8(version.stderr).unwrap();
    let minor: u32 =
        version.split(['/', '.']).nth(2).and_then(|minor| minor.parse().ok()).expect("no version of nginx");
    let (listen, http2) = if minor < 25 { (" ssl http2;", "") } else { (" ssl;", "http2 on;") };
    let certificate_line = format!("ssl_certificate {};", certificate.display());
    let key_line = format!("ssl_certificate_key {};", key.display());
    let listen_line = format!("listen ADDRESS{listen}");
    let nginx = Nginx::with(
        &harmonia.address().to_string(),
        &[
            ("    listen ADDRESS;\n", ""),
            ("#listen 443 ssl;", &listen_line),
            ("#http2 on;", http2),
            ("#ssl_certificate     /etc/ssl/cache.example.org.pem;", &certificate_line),
            ("#ssl_certificate_key /etc/ssl/private/cache.example.org.key;", &key_line),
        ],
    );
    let path = daemon.content().path("many-references");
    for release in Release::ALL {
        let client = Client::new(release, &format!("https://{}", nginx.address()), &[&keys::OURS]);
        client.trust_certificate(&made.cert.pem());
        let _ = client.copy(&[path]).stdout();
        assert!(client.verified_closure(&[path]).len() > 300, "{release}");
    }
}
