//! Pushes by a user with a password in netrc, to a cache that anonymous clients may not even read: by every client release in
//! each of its compressions, over HTTP/1.1 and over HTTP/2 with TLS, to every daemon release.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use super::source::Source;
use crate::nix::client::{Client, nar_hashes};
use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;

const USER: &str = "ci";
const PASSWORD: &str = "correct-horse";
/// Compressions of binary caches: Nix 2.3 has the first four.
const COMPRESSIONS: [&str; 7] = ["none", "xz", "bzip2", "br", "zstd", "gzip", "lzip"];
const OF_NIX_2_3: usize = 4;

fn write(name: &str, text: &str) -> PathBuf {
    let file = scratch::fresh_dir().join(name);
    fs::write(&file, text).unwrap();
    file
}

/// Adds the user as an operator does.
fn users_file() -> PathBuf {
    let file = scratch::fresh_dir().join("users");
    let mut program = Harmonia::program();
    program.args(["user", "add", USER, "--file"]).arg(&file).stdin(Stdio::piped());
    let mut child = program.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    file
}

/// Starts a private cache, to which only one user may push.
fn private_cache(daemon: &Daemon, more: &str) -> Harmonia {
    let users = users_file();
    let config = format!(
        "bind = \"127.0.0.1:0\"\ndaemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nstate_dir = \"{}\"\n{more}\
         [push]\n[access]\nanonymous = []\nusers_file = \"{}\"\n\
         [[access.grant]]\nwho = [\"user:{USER}\"]\nmay = [\"read\", \"push\"]\n",
        daemon.socket().display(),
        keys::OURS.secret.display(),
        scratch::fresh_dir().display(),
        users.display()
    );
    let mut program = Harmonia::program();
    program.arg("--config").arg(write("config.toml", &config)).env("RUST_LOG", "info,harmonia::http=debug");
    Harmonia::launch(program)
}

fn pushes_to(release: Release) {
    let config = [
        "substitute = false".to_owned(),
        "trusted-users = nobody".to_owned(),
        format!("trusted-public-keys = {}", keys::FOREIGN.public),
    ];
    let daemon = Daemon::on(Prefix::new(release, &config), Content::default());
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    let tls = format!(
        "tls_cert_path = \"{}\"\ntls_key_path = \"{}\"\n",
        write("cert.pem", &certificate).display(),
        write("key.pem", &made.signing_key.serialize_pem()).display()
    );
    let servers = [private_cache(&daemon, ""), private_cache(&daemon, &tls)];
    for (client, digit) in Release::ALL.into_iter().zip('3'..) {
        let source = Source::new(client, digit, 10);
        source.trust_certificate(&certificate);
        source.has_password("127.0.0.1", USER, PASSWORD);
        let count = if client == Release::Nix2_3 { OF_NIX_2_3 } else { COMPRESSIONS.len() };
        let mut pushed = Vec::new();
        for (number, compression) in COMPRESSIONS[..count].iter().enumerate() {
            // Each compression of each client is pushed over both, to half of the daemons each.
            let server = &servers[(client as usize + release as usize + number) % 2];
            let to = format!("{}?compression={compression}", server.url());
            let leaf = source.add_leaf(digit, number, 200_000);
            let _ = source.push(&to, &[&leaf]).stdout();
            pushed.push(leaf);
        }
        let pushed: Vec<_> = pushed.iter().map(String::as_str).collect();
        assert_eq!(daemon.run(&nar_hashes(&pushed)).text(), source.nar_hashes(&pushed), "{client} to {release}");
        let _ = daemon.run(&[&["nix-store", "--verify-path"], &pushed[..]].concat()).stdout();

        let reader = Client::new(client, servers[0].url(), &[&keys::OURS]);
        reader.has_password("127.0.0.1", USER, PASSWORD);
        let _ = reader.copy(&pushed).stdout();
        assert_eq!(reader.verified_closure(&pushed), pushed);
    }
    let [plain, encrypted] = servers.map(|server| server.log());
    assert!(plain.contains("version=HTTP/1.1") && !plain.contains("version=HTTP/2.0"), "{plain}");
    assert!(encrypted.contains("version=HTTP/2.0") && !encrypted.contains("version=HTTP/1.1"), "{encrypted}");
}

#[test]
fn a_user_pushes_to_nix_2_3() {
    pushes_to(Release::Nix2_3);
}

#[test]
fn a_user_pushes_to_nix_2_8() {
    pushes_to(Release::Nix2_8);
}

#[test]
fn a_user_pushes_to_nix_2_26() {
    pushes_to(Release::Nix2_26);
}

#[test]
fn a_user_pushes_to_nix_2_34() {
    pushes_to(Release::Nix2_34);
}
