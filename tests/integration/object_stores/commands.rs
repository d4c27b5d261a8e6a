//! The commands about a bucket, on real object stores, with a binary cache that `nix copy` wrote.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::nix::client::Client;
use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::engine::{Engine, Kind};
use crate::support::exit::{CONFIG, DATA, NO_PERMISSION, OK};
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::tls::{Authority, Tls};

const NAMES: [&str; 3] = ["self-reference", "deep-tree", "text-with-reference"];

struct Ended {
    code: Option<i32>,
    output: String,
    log: String,
}

/// A binary cache in a directory, with xz, which all releases know.
struct Written {
    layout: PathBuf,
    content: Content,
}

static WRITTEN: LazyLock<Written> = LazyLock::new(|| {
    let prefix = Box::leak(Box::new(Prefix::new(Release::Nix2_34, &["substitute = false".to_owned()])));
    let content = Content::populate(prefix);
    fs::copy(&keys::OURS.secret, prefix.on_host("/nix/etc/secret")).unwrap();
    let paths = NAMES.map(|name| content.path(name));
    let cache = "file:///nix/mirrored?compression=xz&secret-key=/nix/etc/secret";
    let _ = prefix.run(&[&["nix", "copy", "--to", cache], &paths[..]].concat()).stdout();
    Written { layout: prefix.on_host("/nix/mirrored"), content }
});

/// Returns the program with a configuration file of this text.
fn program(config: &str) -> Command {
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, config).unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(file).stdout(Stdio::piped());
    program
}

/// Runs the program with a configuration file of this text.
fn run(config: &str, arguments: &[&str]) -> Ended {
    let mut program = program(config);
    program.args(arguments);
    ended(program)
}

fn ended(mut program: Command) -> Ended {
    let ended = program.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code(), output: text(ended.stdout), log: text(ended.stderr) }
}

fn access_key(id: &str, secret: &str) -> PathBuf {
    let file = scratch::fresh_dir().join("access-key");
    fs::write(&file, format!("AWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\n")).unwrap();
    file
}

fn config_of(engine: &Engine, credentials: &std::path::Path) -> String {
    format!(
        "[bucket]\nhost = \"test\"\nurl = \"s3://{}\"\nendpoint = \"{}\"\nallow_http = true\nregion = \"{}\"\n\
         credentials_file = \"{}\"\ntrusted_public_keys = [{:?}]\n",
        engine.bucket(),
        engine.endpoint(),
        engine.region(),
        credentials.display(),
        keys::OURS.public
    )
}

fn config(engine: &Engine) -> String {
    config_of(engine, &access_key(engine.access_key(), engine.secret_key()))
}

/// A file with the paths to mirror.
fn roots() -> String {
    let file = scratch::fresh_dir().join("paths");
    fs::write(&file, NAMES.map(|name| WRITTEN.content.path(name)).join("\n")).unwrap();
    file.to_str().unwrap().to_owned()
}

fn source() -> String {
    format!("file://{}", WRITTEN.layout.display())
}

/// Copies everything with an empty client of this release, which verifies signatures and contents.
fn reads_everything(release: Release, url: &str) {
    let paths = NAMES.map(|name| WRITTEN.content.path(name));
    let client = Client::new(release, url, &[&keys::OURS]);
    let _ = client.copy(&paths).stdout();
    let _ = client.verified_closure(&paths);
}

#[test]
fn a_mirror_of_a_cache_in_a_bucket_is_proven_and_read_by_every_release() {
    for kind in [Kind::Swift, Kind::Rclone] {
        let Some(engine) = Engine::start(kind) else { continue };
        let config = config(&engine);
        let arguments = ["bucket", "mirror", "--from", &source(), "--store-paths", &roots()];
        let first = run(&config, &arguments);
        assert_eq!(first.code, Some(OK), "{}", first.log);
        assert!(!first.output.contains("copied 0") && first.output.ends_with(", 0 missing\n"), "{}", first.output);
        let again = run(&config, &arguments);
        assert!(again.output.contains("copied 0 paths, sent 0 B, 0 missing"), "{}", again.output);
        for release in [Release::Nix2_3, Release::Nix2_8, Release::Nix2_26, Release::Nix2_34] {
            reads_everything(release, engine.public_url());
        }
        let verified = run(&config, &["bucket", "verify"]);
        assert_eq!(verified.code, Some(OK), "{}{}", verified.output, verified.log);
        assert!(verified.output.contains(", 0 faults"), "{}", verified.output);

        let nar = engine.s3().list("nar/", 1, &[]).keys.remove(0);
        let mut bytes = engine.s3().get(&nar).body;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        assert_eq!(engine.s3().put(&nar, &bytes).status, 200);
        let damaged = run(&config, &["bucket", "verify"]);
        assert_eq!(damaged.code, Some(DATA), "{}", damaged.log);
        assert!(damaged.output.contains(&nar) && damaged.output.contains(", 1 fault\n"), "{}", damaged.output);
    }
}

#[test]
fn a_mirror_in_a_directory_is_a_binary_cache() {
    let directory = scratch::fresh_dir().join("mirror");
    let to = directory.to_str().unwrap();
    let key = keys::OURS.public.as_str();
    let arguments = ["bucket", "mirror", "--from", &source(), "--store-paths", &roots(), "--to", to];
    let without = run("", &arguments);
    assert!(without.code == Some(64) && without.log.contains("--trusted-public-key"), "{}", without.log);
    let other = run("", &[&arguments[..], &["--trusted-public-key", &keys::FOREIGN.public]].concat());
    assert!(other.code == Some(DATA) && other.output.contains("no trusted key has signed it"), "{}", other.output);
    let done = run("", &[&arguments[..], &["--trusted-public-key", key]].concat());
    assert_eq!(done.code, Some(OK), "{}{}", done.output, done.log);
    let mut names = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name == "nix-cache-info"));
}

#[test]
fn a_cache_with_tls_is_mirrored_if_its_certificate_is_trusted() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let tls = Tls::new(&Authority::new());
    let cache = Harmonia::start(&format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n{}",
        daemon.socket().display(),
        keys::OURS.secret.display(),
        tls.config
    ));
    let certificate = scratch::fresh_dir().join("ca.pem");
    fs::write(&certificate, &tls.server_pem).unwrap();
    let (from, directory) = (format!("https://{}", cache.address()), scratch::fresh_dir().join("mirror"));
    let paths = NAMES.map(|name| daemon.content().path(name));
    let list = scratch::fresh_dir().join("paths");
    fs::write(&list, paths.join("\n")).unwrap();
    let mirror = |variables: &[(&str, &PathBuf)]| {
        let mut program = program("");
        program.args(["bucket", "mirror", "--from", &from, "--trusted-public-key", &keys::OURS.public]);
        program.arg("--store-paths").arg(&list).arg("--to").arg(&directory);
        program.envs(variables.iter().copied());
        ended(program)
    };
    let refused = mirror(&[]);
    assert_ne!(refused.code, Some(OK), "{}", refused.log);
    assert!(refused.log.contains("certificate"), "{}", refused.log);
    for variable in ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"] {
        let _ = fs::remove_dir_all(&directory);
        let done = mirror(&[(variable, &certificate)]);
        assert_eq!(done.code, Some(OK), "{}{}", done.output, done.log);
        assert!(
            done.output.contains("copied 4 paths, sent ") && done.output.ends_with(", 0 missing\n"),
            "{}",
            done.output
        );
    }
    let client = Client::new(Release::Nix2_26, &format!("file://{}", directory.display()), &[&keys::OURS]);
    let _ = client.copy(&paths).stdout();
    let _ = client.verified_closure(&paths);
}

#[test]
fn status_says_what_is_in_the_bucket() {
    let Some(engine) = Engine::start(Kind::Rclone) else { return };
    let config = config(&engine);
    let mirrored = run(&config, &["bucket", "mirror", "--from", &source(), "--store-paths", &roots()]);
    assert_eq!(mirrored.code, Some(OK), "{}", mirrored.log);
    let narinfos = fs::read_dir(&WRITTEN.layout).unwrap();
    let count = narinfos.filter(|it| it.as_ref().unwrap().path().extension().is_some_and(|it| it == "narinfo")).count();
    let status = run(&config, &["bucket", "status", "--json"]);
    assert_eq!(status.code, Some(OK), "{}", status.log);
    let report: serde_json::Value = serde_json::from_str(&status.output).unwrap();
    assert_eq!(report["objects"]["narinfos"]["objects"], count);
    let text = run(&config, &["bucket", "status"]).output;
    assert!(text.starts_with(&format!("s3://{} at {}\n", engine.bucket(), engine.endpoint())), "{text}");
}

#[test]
fn what_cannot_be_asked_says_why_and_what_to_do() {
    let none = run("", &["bucket", "status"]);
    assert!(none.code == Some(CONFIG) && none.log.contains("no bucket is configured\n  help: set url"), "{}", none.log);
    let Some(engine) = Engine::shared(Kind::Swift) else { return };
    let wrong = run(&config_of(engine, &access_key(engine.access_key(), "wrong")), &["bucket", "status"]);
    assert_eq!(wrong.code, Some(NO_PERMISSION), "{}", wrong.log);
    assert!(wrong.log.contains("help: check the access key in bucket.credentials_file"), "{}", wrong.log);
    let closed = "[bucket]\nhost = \"a\"\nurl = \"s3://cache\"\nendpoint = \"http://127.0.0.1:1\"\nallow_http = true\n";
    let away = run(closed, &["check"]);
    assert!(away.log.contains("cannot get nix-cache-info: "), "{}", away.log);
    assert_ne!(away.code, Some(OK));
}

/// Returns what a check of a host that publishes says about this engine's bucket.
fn checked(engine: &Engine) -> String {
    let directory = scratch::fresh_dir();
    let publishing = format!(
        "bind = \"127.0.0.1:0\"\nstate_dir = \"{0}/state\"\nnar_cache.dir = \"{0}/nars\"\n{1}publish = \"all\"\n",
        directory.display(),
        config(engine)
    );
    let ended = run(&publishing, &["check"]);
    assert!(engine.s3().list("harmonia/v1/probes/", 10, &[]).keys.is_empty());
    let lines = ended.output.lines().filter(|line| line.starts_with("bucket: "));
    let lines = lines.map(|line| format!("{line}\n")).collect::<Vec<_>>().concat();
    assert!(!lines.is_empty(), "{}{}", ended.output, ended.log);
    format!("{lines}{}", ended.log)
}

#[test]
fn a_check_tries_the_bucket_and_says_what_its_server_lacks() {
    if let Some(swift) = Engine::shared(Kind::Swift) {
        let found = checked(swift);
        let works = "as host test: get, list, put, If-None-Match, ranges, uploads in parts, URLs for clients, delete\n";
        assert!(found.contains(works) && !found.contains("the server"), "{found}");
    }
    if let Some(rclone) = Engine::shared(Kind::Rclone) {
        let found = checked(rclone);
        for lack in ["ignores If-None-Match: ", "sends no parts of objects: "] {
            assert!(found.contains(&format!("bucket: the server {lack}")), "{found}");
        }
    }
}
