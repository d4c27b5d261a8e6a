//! The commands of the guide: those of Nix in `docs/guide/clients.md`, as they stand there, with real releases of Nix, and our
//! own, which have to exist.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::server::Harmonia;

/// A page of `docs/`.
const PAGE: &str = include_str!("../../../docs/guide/clients.md");
/// The page's placeholder of a store path.
const APP: &str = "/nix/store/9whxpv7p8cp13yzmv4ljm18b9mmfhzzx-app-1.0";
const LIBC: &str = "/nix/store/pciqsm92918cmfk0n8vs7kxhgl6bnr61-libc-2.40";

/// Returns a block of commands of a page of the guide, by the heading above it and its number below that.
pub(crate) fn block(page: &str, heading: &str, number: usize) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm-tests/readme-block");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide").join(page);
    let printed = Command::new(script).arg("--file").arg(page).args([heading, &number.to_string()]).output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).unwrap()
}

/// The commands of Nix on the page.
fn commands() -> Vec<&'static str> {
    let lines = PAGE.lines().filter_map(|line| line.strip_prefix("    "));
    lines
        .map(|line| line.trim_start_matches("$ "))
        .filter(|line| line.starts_with("nix ") || line.starts_with("nix-store "))
        .collect()
}

/// The commands of harmonia in the blocks of a page, as a shell reads them, up to a pipe or a comment.
fn commands_of_harmonia(page: &str) -> Vec<&str> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    let commands =
        lines.filter_map(|line| line.trim_start_matches("$ ").split(" | ").find_map(|it| it.strip_prefix("harmonia ")));
    // What status prints begins with the name too.
    let commands = commands.filter(|command| !command.starts_with(|it: char| it.is_ascii_digit()));
    let commands = commands.map(|command| command.split_once(" #").map_or(command, |(before, _)| before));
    // A command may go on in the next line.
    commands.map(|command| command.trim_end_matches('\\')).collect()
}

#[test]
fn the_commands_of_harmonia_on_the_pages_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs", "docs/explanation", "docs/guide", "docs/reference"] {
        pages.extend(fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    let mut tried = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        for command in commands_of_harmonia(&fs::read_to_string(page).unwrap()) {
            // The parser refuses what it does not know before it gives help.
            let script = format!("exec \"$0\" {command} --help");
            let ended = Command::new("bash").args(["-c", &script, env!("CARGO_BIN_EXE_harmonia")]).output().unwrap();
            let error = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{}: harmonia {command}: {error}", page.display());
            tried += 1;
        }
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn the_commands_for_clients_work_with_nix_2_26_and_2_34() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let harmonia = Harmonia::for_daemon(daemon);
    let path = daemon.content().path("many-references");
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    for release in [Release::Nix2_26, Release::Nix2_34] {
        let client = Client::new(release, harmonia.url(), &[&keys::OURS]);
        let _ = client.copy(&[path]).stdout();
        let closure = client.verified_closure(&[path]);
        let other = closure.iter().find(|other| other.as_str() != path).unwrap();
        for command in &commands {
            let command = command
                .replace("\"$(curl --silent http://cache.example.org:5000/pubkey)\"", &keys::OURS.public)
                .replace("http://cache.example.org:5000", harmonia.url())
                .replace("https://cache.example.org", harmonia.url())
                .replace(APP, path)
                .replace(LIBC, other)
                .replace("/nix/store/…", path);
            let words: Vec<_> = command.split(' ').collect();
            let _ = client.run(&words).stdout();
        }
    }
}
