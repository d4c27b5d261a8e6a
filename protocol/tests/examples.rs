//! The programs in `examples/`, run against a scripted nix-daemon, and the README that shows them.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use harmonia_protocol::version::Version;

use super::operations::{HELLO, MISSING};
use super::script::{LAST, Script, numbers, string};
use super::transcript::sessions;

fn recorded(operation: &str) -> Vec<u8> {
    sessions()[0].section(&format!("{operation} {HELLO}")).received.clone()
}

/// Runs an example and returns what it prints.
fn run_example(name: &str, arguments: &[&str], script: Script) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let nix_daemon = std::thread::spawn(move || script.serve(listener.accept().unwrap().0));
    // Cargo builds examples before it runs tests, unless it is told to build one test alone.
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is not built\n  help: cargo build --examples", program.display());
    let output = Command::new(program).args(arguments).env("NIX_DAEMON_SOCKET_PATH", &socket).output().unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    nix_daemon.join().unwrap();
    output.stdout
}

#[test]
fn list_prints_the_sizes_of_paths_that_are_still_valid() {
    let paths = [numbers(&[LAST, 2]), string(HELLO), string(MISSING)].concat();
    let infos = [recorded("QueryPathInfo"), numbers(&[LAST, 0])].concat();
    let script = Script::greeting(sessions_version(), &[]).replies(paths).replies(infos);
    let listed = String::from_utf8(run_example("list", &[], script)).unwrap();
    assert_eq!(listed, format!("         128 {HELLO}\n"));
}

#[test]
fn dump_writes_the_nar_alone() {
    let nar = recorded("NarFromPath");
    let script = Script::greeting(sessions_version(), &[]).replies(recorded("QueryPathInfo")).replies(&nar);
    assert_eq!(run_example("dump", &[HELLO], script), nar[8..], "all that follows LAST");
}

#[test]
fn the_readme_shows_the_examples_as_they_are() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(package.join("README.md")).unwrap();
    for name in ["list", "dump"] {
        let example = std::fs::read_to_string(package.join(format!("examples/{name}.rs"))).unwrap();
        let code = &example[example.find("\nuse ").unwrap()..];
        assert!(readme.contains(code), "README.md has another {name}.rs");
    }
}

fn sessions_version() -> Version {
    Version::from_minor(sessions()[0].claimed())
}
