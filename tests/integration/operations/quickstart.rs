//! `harmonia quickstart`: its output is correct, and its commands work when pasted.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// Returns the command, with a home of its own.
fn program() -> Command {
    let mut program = Harmonia::program();
    program.arg("quickstart").args(["--bind", "127.0.0.1:0"]).env("HOME", scratch::fresh_dir());
    program
}

/// Running program and its standard output.
struct Printed {
    _harmonia: Harmonia,
    output: BufReader<UnixStream>,
}

impl Printed {
    fn by(mut program: Command) -> Self {
        let (output, printed) = UnixStream::pair().unwrap();
        program.stdout(OwnedFd::from(printed));
        let harmonia = Harmonia::launch(program);
        Self { _harmonia: harmonia, output: BufReader::new(output) }
    }

    /// Waits for the next line with this text.
    fn line(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "it ended without {text:?}");
        }
        line.trim().to_owned()
    }
}

#[test]
fn what_is_pasted_copies_an_output_to_a_client_that_requires_signatures() {
    let server = Prefix::new(Release::Nix2_26, &["substitute = false".to_owned()]);
    let _ = server.run(&["nix-store", "--add", "/nix/etc/nix.conf"]).text();
    let expression = r#"derivation { name = "built"; system = builtins.currentSystem; builder = "/bin/bash-static";
        args = [ "-c" "echo built here > $out" ]; }"#;
    let built = server.run(&["nix-build", "--no-out-link", "--expr", expression]).text();

    let mut program = program();
    program.arg("--daemon-command").arg(server.script(&["nix-daemon", "--stdio"]));
    let mut printed = Printed::by(program);
    // A file of eleven bytes in a NAR.
    printed.line("this copies a path of 128 B from here:");
    let line = printed.line("copy --from");
    let words: Vec<_> = line.split_whitespace().map(|word| word.trim_matches('\'')).collect();
    assert_eq!(*words.last().unwrap(), built);

    let client = Prefix::new(Release::Nix2_34, &["require-sigs = true".to_owned(), "trusted-public-keys =".to_owned()]);
    let key = words.iter().position(|word| *word == "--option").unwrap();
    let without_the_key = [&words[..key], &words[key + 3..]].concat();
    assert!(client.run(&without_the_key).failure().contains("signature"));
    let _ = client.run(&words).stdout();
    assert_eq!(fs::read_to_string(client.on_host(&built)).unwrap(), "built here\n");
}

#[test]
fn an_empty_store_is_waited_for_until_somebody_puts_something_in() {
    let server = Prefix::new(Release::Nix2_26, &[]);
    let mut program = program();
    program.arg("--daemon-command").arg(server.script(&["nix-daemon", "--stdio"]));
    let mut printed = Printed::by(program);
    printed.line("nix-store --add FILE");
    let path = server.run(&["nix-store", "--add", "/nix/etc/nix.conf"]).text();
    assert!(printed.line("copy --from").ends_with(&path));
}

#[test]
fn a_daemon_that_is_not_there_is_waited_for() {
    let socket = scratch::fresh_dir().join("socket");
    let mut program = program();
    program.arg("--daemon-socket").arg(&socket);
    let mut printed = Printed::by(program);
    printed.line("Waiting for nix-daemon: cannot reach nix-daemon at");
    let _daemon = ScriptedDaemon::start_at(socket, StoreItem::file(b"contents").script());
    printed.line("copy --from");
}

#[test]
fn it_compresses_into_the_users_cache_directory() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"contents").script());
    let home = scratch::fresh_dir();
    let config = home.join("harmonia.toml");
    fs::write(&config, daemon.config()).unwrap();
    for (variables, dir) in [
        (vec![("HOME", home.clone())], home.join(".cache/harmonia")),
        (vec![("HOME", home.clone()), ("XDG_CACHE_HOME", home.join("xdg"))], home.join("xdg/harmonia")),
        (vec![("HOME", home.clone()), ("CACHE_DIRECTORY", home.join("systemd"))], home.join("systemd")),
    ] {
        let mut program = program();
        program.arg("--config").arg(&config).envs(variables);
        let harmonia = Harmonia::launch(program);
        let narinfo = harmonia.http().get(&StoreItem::file(b"contents").narinfo_url());
        assert!(narinfo.text().contains("\nCompression: zstd\n"), "{}", narinfo.text());
        assert!(dir.join("lock").exists(), "{}", dir.display());
    }
}
