//! Publishing into a bucket: what a server puts there is a binary cache for plain Nix, which reads it without harmonia.

mod commands;
mod new_paths;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::nar_cache::with_nar_cache;
use crate::support::scratch;
use crate::support::server::Harmonia;

/// A server that publishes into a bucket, with a directory of its own.
struct Host {
    config: PathBuf,
    harmonia: Harmonia,
}

impl Host {
    /// Starts a server of this name with a bucket in a directory, and more lines in its configuration.
    fn start(name: &str, daemon: &Daemon, bucket: &Path, more: &str) -> Self {
        let (dir, config) = (scratch::fresh_dir(), scratch::fresh_dir().join("config.toml"));
        fs::write(&config, configuration(name, daemon, &dir, bucket, more)).unwrap();
        let harmonia = serve(&config);
        Self { config, harmonia }
    }

    /// Kills the server and starts it again.
    fn restart(&mut self) {
        self.harmonia.kill();
        self.harmonia = serve(&self.config);
    }

    /// Runs `harmonia bucket`.
    fn bucket(&self, arguments: &[&str]) -> Output {
        let mut program = Harmonia::program();
        program.arg("--config").arg(&self.config).arg("bucket").args(arguments);
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        program.output().unwrap()
    }
}

fn serve(config: &Path) -> Harmonia {
    let mut program = Harmonia::program();
    program.arg("--config").arg(config);
    Harmonia::launch(program)
}

fn configuration(name: &str, daemon: &Daemon, dir: &Path, bucket: &Path, more: &str) -> String {
    let text = format!(
        "bind = \"127.0.0.1:0\"\ndaemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nadmin_socket = \"{}\"\n\
         state_dir = \"{}\"\nnar_cache.precompress = \"off\"\nbucket.url = \"file://{}\"\nbucket.host = \"{name}\"\n{more}",
        daemon.socket().display(),
        keys::OURS.secret.display(),
        dir.join("admin.sock").display(),
        dir.join("state").display(),
        bucket.display(),
    );
    with_nar_cache(&dir.join("nars"), &text)
}

/// Checks the exit status of a command and that its output has this text.
fn says(output: &Output, code: i32, text: &str) {
    let all = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.code() == Some(code) && all.contains(text), "not {code} with {text:?}: {all}");
}

/// Copies these paths from the bucket with an empty client, which verifies signatures and contents.
fn is_read_by(release: Release, bucket: &Path, daemon: &Daemon, paths: &[&str]) {
    let client = Client::new(release, &format!("file://{}", bucket.display()), &[&keys::OURS]);
    let _ = client.copy(paths).stdout();
    let _ = client.verified_closure(paths);
    let theirs = daemon.run(&crate::nix::client::nar_hashes(paths)).text();
    assert_eq!(client.nar_hashes(paths), theirs);
}

/// Names of the files in a folder of the bucket.
fn names(bucket: &Path, folder: &str) -> Vec<String> {
    let Ok(entries) = bucket.join(folder).read_dir() else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
    let mut names: Vec<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
