//! `sign = "trusted"`: which paths of a real daemon's store are signed, and which are served at all.

use std::fs;
use std::process::{Command, Stdio};

use harmonia_protocol::StoreDir;
use harmonia_protocol::hash::{Hash, NarHash};
use harmonia_protocol::narinfo::NarInfo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use crate::nix::client::Client;
use crate::nix::content::{self, Content};
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::http::Http;
use crate::support::keys::{self, Key};
use crate::support::metrics::await_value;
use crate::support::narinfo::{self, values};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, hash_part};

/// Derivation of a directory with a file, a symlink, and the debug info of a build.
const EXPRESSION: &str = r#"
{ name, target ? "nowhere" }:
let id = builtins.hashString "sha1" name;
in derivation {
  inherit name;
  system = builtins.currentSystem;
  builder = "/usr/bin/perl";
  args = [ "-e" ''
    mkdir($_), chdir($_) for $ENV{out};
    symlink "${target}", "link";
    open F, ">", "file"; print F "${name}";
    mkdir($debug .= "$_/") for qw(lib debug .build-id ${builtins.substring 0 2 id});
    open F, ">", $debug . "${builtins.substring 2 38 id}.debug";
  '' ];
}
"#;

/// Copied paths, and the key that signed each.
const COPIED: [(&str, Signer); 4] = [
    ("signed-by-a-trusted-key", Signer::Trusted),
    ("signed-by-another-key", Signer::Another),
    ("forged-under-the-trusted-name", Signer::Forger),
    ("unsigned", Signer::Nobody),
];

#[derive(Clone, Copy, PartialEq)]
enum Signer {
    Trusted,
    Another,
    Forger,
    Nobody,
}

/// Store with a path of each kind.
struct Store {
    daemon: Daemon,
    /// Name and path; true if it is trusted.
    paths: Vec<(&'static str, String, bool)>,
}

fn build(prefix: &Prefix, arguments: &[&str]) -> String {
    fs::write(prefix.on_host("/nix/tmp/build.nix"), EXPRESSION).unwrap();
    prefix.run(&[&["nix-build", "--no-out-link", "/nix/tmp/build.nix"], arguments].concat()).text()
}

impl Store {
    /// Creates the store. Another store of the same release builds and signs the copied paths, and writes them to a `file://`
    /// cache.
    fn of(release: Release) -> Self {
        let config = ["substitute = false".to_owned()];
        let (elsewhere, here) = (Prefix::new(release, &config), Prefix::new(release, &config));
        let forger = Key::generate(keys::FOREIGN.name);
        let mut paths = Vec::new();
        for (name, signer) in COPIED {
            let path = build(&elsewhere, &["--argstr", "name", name]);
            match signer {
                Signer::Trusted => content::sign(&elsewhere, &keys::FOREIGN, &path),
                Signer::Another => content::sign(&elsewhere, &keys::THIRD, &path),
                Signer::Forger => content::sign(&elsewhere, &forger, &path),
                Signer::Nobody => {}
            }
            paths.push((name, path, signer == Signer::Trusted));
        }
        let copied: Vec<_> = paths.iter().map(|(_, path, _)| path.as_str()).collect();
        let cache = "file:///nix/tmp/cache";
        let _ = elsewhere.run(&[&["nix", "copy", "--to", cache], &*copied].concat()).stdout();
        let mut moving = Command::new("cp");
        moving.arg("-r").arg(elsewhere.on_host("/nix/tmp/cache")).arg(here.on_host("/nix/tmp/"));
        assert!(moving.status().unwrap().success());
        let _ = here.run(&[&["nix", "copy", "--no-check-sigs", "--from", cache], &*copied].concat()).stdout();

        let unsigned = paths[3].1.clone();
        paths.push((
            "built-here",
            build(&here, &["--argstr", "name", "built-here", "--argstr", "target", &unsigned]),
            true,
        ));
        let source = here.run(&["nix-store", "--add", "/nix/tmp/build.nix"]).text();
        paths.push(("content-addressed", source, true));
        let flat = here.run(&["nix-store", "--add-fixed", "sha256", "/nix/tmp/build.nix"]).text();
        paths.push(("content-addressed flat", flat, true));
        let text = r#"builtins.toFile "text" "a text""#;
        let text = here.run(&["nix-instantiate", "--eval", "--read-write-mode", "--expr", text]).text();
        paths.push(("content-addressed text", text.trim_matches('"').to_owned(), true));
        Self { daemon: Daemon::on(here, Content::default()), paths }
    }

    fn path(&self, wanted: &str) -> &str {
        &self.paths.iter().find(|(name, ..)| *name == wanted).unwrap().1
    }

    fn server(&self, more: &str) -> Harmonia {
        // As in nix.conf, of keys that signed nothing here too.
        let unrelated = Key::generate("unrelated-1").public;
        let trusted = &keys::FOREIGN.public;
        Harmonia::start(&format!(
            "daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\nsign_key_paths = [\"{}\"]\nsign = \"trusted\"\n\
             trusted_public_keys = [\"{unrelated}\", \"{trusted}\"]\n{more}",
            self.daemon.socket().display(),
            self.daemon.on_host("/nix/store").display(),
            keys::OURS.secret.display(),
        ))
    }
}

fn signers(narinfo: &str) -> Vec<&str> {
    values(narinfo, "Sig").iter().map(|signature| signature.split(':').next().unwrap()).collect()
}

/// Returns the statuses of all URLs of a path and of its contents.
fn statuses(http: Http, name: &str, path: &str, nar_url: &str) -> Vec<u16> {
    let hash = hash_part(path);
    let build_id = data_encoding::HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, name.as_bytes()).as_ref());
    let urls = [
        format!("/{hash}.narinfo"),
        format!("/{hash}.narinfo?json"),
        nar_url.to_owned(),
        format!("/{hash}.ls"),
        format!("/serve/{hash}/file"),
        format!("/debuginfo/{build_id}"),
    ];
    urls.iter().map(|url| http.get(url).status).collect()
}

fn signs_and_serves_what_is_trusted(release: Release) {
    let store = Store::of(release);
    let (serving, withholding) = (store.server(""), store.server("serve_untrusted = false\n"));
    let start = "signing what was built here, is content-addressed or has a signature of one of 2 trusted keys, ";
    serving.wait_for_log(&format!("{start}other paths are served unsigned"));
    withholding.wait_for_log(&format!("{start}other paths are not served"));
    for (name, path, is_trusted) in &store.paths {
        let url = format!("/{}.narinfo", hash_part(path));
        // The second response is the cached text.
        for _ in 0..2 {
            let response = serving.http().get(&url);
            let signers = signers(response.text());
            assert_eq!(signers.contains(&keys::OURS.name), *is_trusted, "{release}, {name}: {signers:?}");
            if *is_trusted {
                assert_eq!(withholding.http().get(&url).body, response.body, "{release}, {name}");
            }
        }
        let narinfo = serving.http().get(&url);
        let nar = format!("/{}", narinfo::value(narinfo.text(), "URL"));
        // A source is a file, which has no files.
        let in_it = if name.starts_with("content-addressed") { 404 } else { 200 };
        let all = [200, 200, 200, 200, in_it, in_it];
        assert_eq!(statuses(serving.http(), name, path, &nar), all, "{release}, {name}");
        let expected = if *is_trusted { all } else { [404; 6] };
        assert_eq!(statuses(withholding.http(), name, path, &nar), expected, "{release}, {name}");
    }
    // A trusted path does not reveal an untrusted one.
    let link = format!("/serve/{}/link/file", hash_part(store.path("built-here")));
    assert_eq!((serving.http().get(&link).status, withholding.http().get(&link).status), (200, 404), "{release}");

    let client = Client::new(release, serving.url(), &[&keys::OURS]);
    let taken = ["signed-by-a-trusted-key", "built-here", "content-addressed"].map(|name| store.path(name));
    let _ = client.copy(&taken).stdout();
    for refused in ["signed-by-another-key", "forged-under-the-trusted-name", "unsigned"] {
        let reason = client.copy(&[store.path(refused)]).failure();
        assert!(reason.contains("signature"), "{refused} failed for another reason: {reason}");
    }
}

#[test]
fn a_daemon_of_nix_2_3_vouches_for_what_it_built() {
    signs_and_serves_what_is_trusted(Release::Nix2_3);
}

#[test]
fn a_daemon_of_nix_2_8_vouches_for_what_it_built() {
    signs_and_serves_what_is_trusted(Release::Nix2_8);
}

#[test]
fn a_daemon_of_nix_2_26_vouches_for_what_it_built() {
    signs_and_serves_what_is_trusted(Release::Nix2_26);
}

#[test]
fn a_daemon_of_nix_2_34_vouches_for_what_it_built() {
    signs_and_serves_what_is_trusted(Release::Nix2_34);
}

/// Creates a `file://` cache whose narinfo claims for the path of `add` the content of another file.
fn forge(prefix: &Prefix, add: &[&str]) -> String {
    fs::write(prefix.on_host("/nix/tmp/genuine"), "what the address names").unwrap();
    let path = prefix.run(&[add, &["/nix/tmp/genuine"]].concat()).text();
    let _ = prefix.run(&["nix", "copy", "--to", "file:///nix/tmp/cache?compression=none", &path]).stdout();
    let place = prefix.on_host(&format!("/nix/tmp/cache/{}.narinfo", hash_part(&path)));
    let mut narinfo = NarInfo::parse(&fs::read_to_string(&place).unwrap(), &StoreDir::default()).unwrap();
    assert!(narinfo.content_address.is_some());
    let nar = StoreItem::file(b"something else than that").nar;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &nar).as_ref());
    (narinfo.file_hash, narinfo.file_size) = (Some(Hash::from_sha256(hash)), Some(nar.len() as u64));
    (narinfo.nar_hash, narinfo.nar_size) = (NarHash::from_digest(hash), nar.len() as u64);
    fs::write(prefix.on_host("/nix/tmp/cache").join(narinfo.url.as_str()), nar).unwrap();
    fs::write(place, narinfo.render(&StoreDir::default())).unwrap();
    path
}

/// The daemon of Nix 2.3 accepts them from any user. Later ones refuse them, but may run on the store of an earlier one.
#[test]
fn a_content_address_that_the_contents_do_not_have_is_no_reason_to_sign() {
    for release in Release::ALL {
        for add in [&["nix-store", "--add"][..], &["nix-store", "--add-fixed", "sha256"]] {
            let config = ["substitute = false".to_owned()];
            let (elsewhere, here) = (Prefix::new(release, &config), Prefix::new(release, &config));
            let path = forge(&elsewhere, add);
            let mut moving = Command::new("cp");
            moving.arg("-r").arg(elsewhere.on_host("/nix/tmp/cache")).arg(here.on_host("/nix/tmp/"));
            assert!(moving.status().unwrap().success());
            let taken = here.run(&["nix", "copy", "--from", "file:///nix/tmp/cache", &path]);
            if release != Release::Nix2_3 {
                let reason = taken.failure();
                assert!(reason.contains("hash mismatch"), "{release} refused for another reason: {reason}");
                continue;
            }
            let _ = taken.stdout();
            let store = Store { daemon: Daemon::on(here, Content::default()), paths: Vec::new() };
            let url = format!("/{}.narinfo", hash_part(&path));
            let served = store.server("").http().get(&url);
            assert_eq!(served.status, 200);
            assert_eq!(signers(served.text()), Vec::<&str>::new(), "{}", served.text());
            assert_eq!(store.server("serve_untrusted = false\n").http().get(&url).status, 404);
        }
    }
}

/// The contents are read once to decide, as long as path info and keys stay the same.
#[test]
fn a_path_is_decided_about_once_and_again_with_other_keys() {
    let mut item = StoreItem::file(b"a text");
    let hash = digest(&SHA256, b"a text");
    item.content_address = format!("text:sha256:{}", harmonia_protocol::nix32::encode(hash.as_ref()));
    let hexadecimal = data_encoding::HEXLOWER.encode(hash.as_ref());
    let fingerprint = digest(&SHA256, format!("text:sha256:{hexadecimal}:/nix/store:text").as_bytes());
    let mut folded = [0; 20];
    fingerprint.as_ref().iter().enumerate().for_each(|(place, byte)| folded[place % 20] ^= byte);
    item.path = format!("/nix/store/{}-text", harmonia_protocol::nix32::encode(&folded));
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&format!(
        "{}sign_key_paths = [\"{}\"]\nsign = \"trusted\"\nserve_untrusted = false\n",
        daemon.config(),
        keys::OURS.secret.display()
    ));
    let nars = || daemon.seen().queries.iter().filter(|query| matches!(query, Query::Nar(_))).count();
    for times in [1, 2] {
        for _ in 0..3 {
            let narinfo = harmonia.http().get(&item.narinfo_url());
            assert_eq!(signers(narinfo.text()), [keys::OURS.name], "{}", narinfo.text());
        }
        assert_eq!(nars(), times);
        harmonia.reload();
        harmonia.wait_for_log_times("reloaded the signing keys", times);
    }
    // Content that does not match the address is neither signed nor served.
    let mut forged = StoreItem::file(b"a lie!");
    (forged.path, forged.content_address) = (item.path.clone(), item.content_address.clone());
    daemon.play(forged.script());
    let another = Harmonia::start(&format!("{}sign = \"trusted\"\nserve_untrusted = false\n", daemon.config()));
    assert_eq!(another.http().get(&forged.narinfo_url()).status, 404);
}

/// They are hidden even if they are in the NAR cache already and a client resumes.
#[test]
fn compressed_nars_of_untrusted_paths_are_not_served() {
    let store = Store::of(Release::Nix2_34);
    let dir = scratch::fresh_dir().join("nars");
    let cache = format!("enable_compression = true\nnar_cache.dir = {dir:?}\n");
    let path = store.path("unsigned");
    let narinfo = format!("/{}.narinfo", hash_part(path));
    let serving = store.server(&cache);
    let url = format!("/{}", narinfo::value(serving.http().get(&narinfo).text(), "URL"));
    assert_eq!(serving.http().get(&url).status, 200);
    await_value(serving.http(), "harmonia_nar_cache_entries", 1.0);
    drop(serving);
    let withholding = store.server(&format!("serve_untrusted = false\n{cache}"));
    withholding.wait_for_log("(1 files, ");
    assert_eq!(withholding.http().get(&narinfo).status, 404);
    assert_eq!(withholding.http().get(&url).status, 404);
    assert_eq!(withholding.http().get_with(&url, &[("Range", "bytes=1-")]).status, 404);
}

#[test]
fn the_page_and_a_check_say_what_is_signed() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let config = format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nsign = \"trusted\"\nserve_untrusted = false\n",
        daemon.socket().display(),
        keys::OURS.secret.display()
    );
    let said = "what was built here, is content-addressed and nothing else, other paths are not served";
    let harmonia = Harmonia::start(&config);
    let page = harmonia.http().get("/");
    assert!(
        page.text().contains(&format!("<p>It signs {said}. Every path that this cache trusts is signed")),
        "{}",
        page.text()
    );
    assert!(!page.text().contains("Every path is signed"));
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, config).unwrap();
    let mut check = Harmonia::program();
    let checked = check.arg("--config").arg(file).arg("check").stdout(Stdio::piped()).output().unwrap();
    let output = String::from_utf8(checked.stdout).unwrap();
    assert!(output.contains(&format!("\nsigning: {said}\n")), "{output}");
}
