//! Secret keys do not leak into the most verbose log, responses or core dumps.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::keys;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// Returns the base64 part of a secret key, and its seed: the decoded first half.
fn seed() -> (String, Vec<u8>) {
    let text = fs::read_to_string(&keys::OURS.secret).unwrap();
    let encoded = text.trim_end().split_once(':').unwrap().1.to_owned();
    let bytes = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap()[..32].to_vec();
    (encoded, bytes)
}

/// Returns whether the text lacks the seed in every notation of bytes that a log may use.
fn is_without_the_seed(text: &str) -> bool {
    let (encoded, bytes) = seed();
    let as_numbers = format!("{bytes:?}");
    let [hex, upper] = [data_encoding::HEXLOWER, data_encoding::HEXUPPER].map(|hex| hex.encode(&bytes));
    // The first 40 characters are of the seed alone; the end of it is the public key.
    [&encoded[..40], &hex[..40], &upper[..40], as_numbers.trim_matches(['[', ']'])].iter().all(|it| !text.contains(it))
}

#[test]
fn no_log_and_no_response_holds_a_secret() {
    let item = StoreItem::file(b"signed");
    let daemon = ScriptedDaemon::start(item.script());
    let file = scratch::fresh_dir().join("config.toml");
    // A configuration that the secret key was put into by mistake, for the reload.
    let (encoded, _) = seed();
    let config =
        format!("bind = \"127.0.0.1:0\"\n{}sign_key_paths = [\"{}\"]\n", daemon.config(), keys::OURS.secret.display());
    fs::write(&file, &config).unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(&file).env("RUST_LOG", "trace");
    let harmonia = Harmonia::launch(program);
    for url in ["/", "/metrics", "/pubkey", "/ready", "/nix-cache-info", &item.narinfo_url(), &item.nar_url()] {
        assert!(is_without_the_seed(harmonia.http().get(url).text()), "{url}");
    }
    let secret = format!("{}:{encoded}", keys::OURS.name);
    for (mistake, said) in [
        (format!("sign = \"trusted\"\ntrusted_public_keys = [\"{secret}\"]\n"), "is a secret key"),
        (format!("sign_key_path = {secret}\n"), "reload failed, keeping the current configuration: "),
        (
            format!("sign_key_path = \"{secret}\"\n"),
            "reload failed, keeping the current signing keys: a secret key was given",
        ),
    ] {
        fs::write(&file, format!("{config}{mistake}")).unwrap();
        harmonia.reload();
        harmonia.wait_for_log(said);
    }
    let log = harmonia.log();
    assert!(log.contains(" DEBUG ") && log.contains(&keys::OURS.public), "{log}");
    assert!(is_without_the_seed(&log), "{log}");
}

/// Returns whether a process that aborts dumps core without a limit on its size.
fn dumps_core(mut program: Command, is_up: impl FnOnce(&mut std::process::Child)) -> bool {
    let mut child = program.current_dir(scratch::fresh_dir()).spawn().unwrap();
    is_up(&mut child);
    kill_process(Pid::from_child(&child), Signal::ABORT).unwrap();
    child.wait().unwrap().core_dumped()
}

fn unlimited(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -c unlimited; exec "$0" "$@""#]).arg(program);
    command
}

#[test]
fn an_abort_leaves_no_core_though_one_of_another_program_does() {
    let mut other = unlimited(Path::new("cat"));
    other.stdin(Stdio::piped());
    if !dumps_core(other, |_| {}) {
        // Where the kernel is set to write none at all, there is nothing to see.
        eprintln!("no program leaves a core on this machine");
    }
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{}", daemon.config())).unwrap();
    let mut program = unlimited(Path::new(Harmonia::program().get_program()));
    program.arg("--config").arg(file).stderr(Stdio::piped());
    let dumped = dumps_core(program, |child| {
        use std::io::{BufRead as _, BufReader};
        let log = BufReader::new(child.stderr.as_mut().unwrap());
        assert!(log.lines().any(|line| line.unwrap().contains("listening on ")));
    });
    assert!(!dumped);
}
