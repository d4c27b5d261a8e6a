//! Errors of `harmonia check` and of starts that fail: messages and exit statuses.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::exit::{CONFIG, NO_PERMISSION, OK, PROTOCOL, UNAVAILABLE};
use crate::support::keys;
use crate::support::scratch;
use crate::support::scripted_daemon::{Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::wire::Wire;

struct Ended {
    code: Option<i32>,
    output: String,
    log: String,
}

/// Runs the program with this configuration file until it exits.
fn run(config: &str, arguments: &[&str]) -> Ended {
    run_with(config, arguments, &[])
}

/// Runs the program with this configuration file and environment variable until it exits.
fn run_with(config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, config).unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(file).args(arguments).envs(environment.iter().copied());
    if !config.contains("bind = ") {
        program.args(["--bind", "127.0.0.1:0"]);
    }
    let ended = program.stdout(std::process::Stdio::piped()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code(), output: text(ended.stdout), log: text(ended.stderr) }
}

fn key_file(text: &str) -> PathBuf {
    let path = scratch::fresh_dir().join("key");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_check_of_all_that_is_needed_says_what_it_found() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let ended = run(
        &format!("daemon_socket = {:?}\nsign_key_paths = [{:?}]\n", daemon.socket(), keys::OURS.secret),
        &["check"],
    );
    assert_eq!(ended.code, Some(OK), "{}", ended.log);
    for line in [
        "configuration: ok, would listen on 127.0.0.1:0\n",
        "address: ok, 127.0.0.1:0 is free\n",
        &format!("signing key: ok, {}\n", keys::OURS.public),
        "signing: every path\n",
        "Nix 2.34.",
        "protocol 1.38",
        "path info: ok, /nix/store/",
        "has the size and the hash of its path info\n",
    ] {
        assert!(ended.output.contains(line), "{line} is not in:\n{}", ended.output);
    }
}

#[test]
fn a_check_exits_with_what_would_keep_it_from_serving() {
    let scripted = |greeting| ScriptedDaemon::start(Script::greeting(greeting));
    let refusing = scripted(Reply::then_disconnect([]));
    let foreign = scripted(Reply::then_disconnect("SSH-2.0-OpenSSH_9.2\r\n"));
    let guix = scripted(Wire::new().number(0x6478_696f).number(0x163).into());
    let elsewhere = format!(
        "daemon_socket = {:?}\nvirtual_nix_store = \"/gnu/store\"\n",
        Daemon::shared(Release::Nix2_34).socket()
    );
    let public = key_file(&keys::OURS.public);
    let short = key_file("name:AAAA");
    for (config, code, reason) in [
        ("daemon_socket = \"/nonexistent/socket\"\n", UNAVAILABLE, "cannot reach nix-daemon at /nonexistent/socket"),
        ("daemon_command = \"/nonexistent/daemon\"\n", UNAVAILABLE, "/nonexistent/daemon"),
        (&refusing.config(), NO_PERMISSION, "is in allowed-users of nix.conf"),
        (&foreign.config(), PROTOCOL, "is not nix-daemon"),
        (&guix.config(), PROTOCOL, "guix"),
        (&elsewhere, PROTOCOL, "nix-daemon refuses paths of /gnu/store: "),
        ("bind = 5\n", CONFIG, "config.toml:1: bind: "),
        ("\n\nworkers = 0\n", CONFIG, "config.toml:3: workers: "),
        (&format!("sign_key_paths = [{public:?}]\n"), CONFIG, "public"),
        (&format!("sign_key_paths = [{short:?}]\n"), CONFIG, "help: "),
        ("sign_key_paths = [\"/nonexistent/key\"]\n", CONFIG, "/nonexistent/key"),
        ("tls_cert_path = \"/x\"\n", CONFIG, "tls_cert_path is set without tls_key_path"),
        ("tls_cert_path = \"/x\"\ntls_key_path = \"/y\"\n", CONFIG, "/x"),
    ] {
        let ended = run(config, &["check"]);
        assert_eq!(ended.code, Some(code), "{config}: {}", ended.log);
        assert!(ended.log.contains(" ERROR ") && ended.log.contains(reason), "{config}: {}", ended.log);
    }
}

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_a_suggestion() {
    let config = "# comment\nworker = 4\n";
    for arguments in [&[][..], &["check"]] {
        let ended = run(config, arguments);
        assert_eq!((ended.code, &*ended.output), (Some(CONFIG), ""));
        assert!(ended.log.contains("config.toml:2: unknown key \"worker\"\n  help: did you mean \"workers\"?\n"));
    }
}

#[test]
fn a_check_of_the_syntax_looks_at_the_file_alone_and_tells_all_that_is_wrong() {
    let file = |text: &str| {
        let path = scratch::fresh_dir().join("harmonia.toml");
        fs::write(&path, text).unwrap();
        path
    };
    let check = |path: &PathBuf| {
        let mut program = Harmonia::program();
        // Were they read, they would be errors.
        program
            .env("NIX_STORE_DIR", "nowhere")
            .env("CREDENTIALS_DIRECTORY", "/nonexistent")
            .env("CONFIG_FILE", "/nonexistent");
        let ended =
            program.args(["check", "--syntax"]).arg(path).stdout(std::process::Stdio::piped()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: ended.status.code(), output: text(ended.stdout), log: text(ended.stderr) }
    };
    let good = file(
        "bind = \"192.0.2.1:1\"\ndaemon_socket = \"/nonexistent\"\nsign_key_paths = [\"/nonexistent\"]\n\
         tls_cert_path = \"/nonexistent\"\ntls_key_path = \"/nonexistent\"\nnar_cache.dir = \"/nonexistent/nars\"\n\
         nix_db_path = \"/nonexistent\"\n",
    );
    let ended = check(&good);
    assert_eq!((ended.code, ended.output), (Some(OK), format!("{}: ok\n", good.display())));
    assert!(ended.log.contains("nix_db_path has no effect"), "{}", ended.log);
    let bad = file("wrokers = 4\npriority = \"high\"\n");
    let ended = check(&bad);
    assert_eq!((ended.code, &*ended.output), (Some(CONFIG), ""));
    let errors: Vec<_> = ended.log.lines().filter(|line| line.contains(" ERROR ")).collect();
    let [key, value] = &errors[..] else { panic!("{}", ended.log) };
    assert!(
        key.contains("harmonia.toml:1: unknown key") && value.contains("harmonia.toml:2: priority: "),
        "{errors:?}"
    );
    assert_eq!(check(&"/nonexistent".into()).code, Some(CONFIG));
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = run(&format!("bind = \"{address}\"\n"), &[]);
    assert_eq!(ended.code, Some(UNAVAILABLE), "{}", ended.log);
    assert!(ended.log.contains(&address.to_string()) && ended.log.contains("help: "), "{}", ended.log);
}

#[test]
fn an_address_of_the_harmonia_that_runs_is_not_in_the_way() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let directory = scratch::fresh_dir();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    fs::write(&cert, certificate.cert.pem()).unwrap();
    fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    let common = format!("daemon_socket = {:?}\nadmin_socket = {:?}\n", daemon.socket(), directory.join("admin.sock"));
    for tls in [String::new(), format!("tls_cert_path = {cert:?}\ntls_key_path = {key:?}\n")] {
        let harmonia = Harmonia::start(&format!("{common}{tls}"));
        let ended = run(&format!("bind = \"{}\"\n{common}{tls}", harmonia.address()), &["check"]);
        let is_told = ended.output.contains(&format!("address: {} is in use by ", harmonia.address()));
        assert!(ended.code == Some(OK) && is_told, "{}{}", ended.output, ended.log);
    }
}

#[test]
fn the_log_has_what_the_environment_asks_for() {
    let config = "nix_db_path = \"/nix/var/nix/db/db.sqlite\"\ndaemon_socket = \"/nonexistent/socket\"\n";
    for (filter, has_warning) in [
        ("info", true),
        ("error", false),
        // Written for other versions.
        ("info,actix_web::middleware=error", true),
        // Filters nothing of this program.
        ("hyper=debug", false),
        // Is no level.
        ("verbose", true),
        // The final error is logged whatever the filter.
        ("off", false),
        ("harmonia=off", false),
    ] {
        let Ended { code, log, .. } = run_with(config, &["check"], &[("RUST_LOG", filter)]);
        let is_told = log.contains("ERROR cannot reach nix-daemon at /nonexistent/socket");
        assert!(code == Some(UNAVAILABLE) && is_told && log.contains(" WARN ") == has_warning, "{filter}: {log}");
        assert_eq!(log.contains("RUST_LOG: \"verbose\" is neither a level"), filter == "verbose", "{log}");
    }
}

#[test]
fn a_reader_that_goes_away_changes_neither_the_status_nor_the_log() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let config = key_file(&format!("daemon_socket = {:?}\nbind = \"127.0.0.1:0\"\n", daemon.socket()));
    for (arguments, code) in [(&["check"][..], OK), (&["cache", "stats"], CONFIG), (&["--help"], OK)] {
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        let mut program = Harmonia::program();
        program.args(arguments).arg("--config").arg(&config).stdout(OwnedFd::from(writer));
        let ended = program.stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let log = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(code) && !log.contains("panicked"), "{arguments:?}: {log}");
    }
}

#[test]
fn secrets_in_the_store_are_refused_at_the_start_and_by_a_check() {
    // Of a store with another name, too.
    let store = scratch::fresh_dir().join("store");
    fs::create_dir(&store).unwrap();
    let (key, link) = (store.join("0-key"), scratch::fresh_dir().join("key"));
    fs::copy(&keys::OURS.secret, &key).unwrap();
    std::os::unix::fs::symlink(&key, &link).unwrap();
    for arguments in [&[][..], &["check"]] {
        for secret in
            [format!("sign_key_paths = [{link:?}]\n"), format!("tls_key_path = {link:?}\ntls_cert_path = \"/x\"\n")]
        {
            for name in ["real_nix_store", "virtual_nix_store"] {
                let config =
                    format!("bind = \"127.0.0.1:0\"\ndaemon_socket = \"/nonexistent\"\n{name} = {store:?}\n{secret}");
                let ended = run(&config, arguments);
                let refusal = format!("key {} is no secret: it is {} in the Nix store", link.display(), key.display());
                assert_eq!(ended.code, Some(CONFIG), "{}", ended.log);
                assert!(ended.log.contains(&refusal) && ended.log.contains("\n  help: "), "{}", ended.log);
            }
        }
    }
}

#[test]
fn a_check_says_whether_and_why_nars_are_compressed() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let dir = scratch::fresh_dir().join("nars");
    let kept = format!("nar_cache.dir = {dir:?}\n");
    for (more, found) in [
        (kept.clone(), format!("compression: on, stored in {} (at most 10.0 GiB)\n", dir.display())),
        (format!("{kept}enable_compression = false\n"), "compression: off, enable_compression = false\n".to_owned()),
        ("enable_compression = true\n".to_owned(), "compression: off, no NAR cache is configured".to_owned()),
    ] {
        let ended = run(&format!("daemon_socket = {:?}\n{more}", daemon.socket()), &["check"]);
        assert!(ended.code == Some(OK) && ended.output.contains(&found), "{}{}", ended.output, ended.log);
    }
}
