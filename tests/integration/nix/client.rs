//! A real client of a release: an empty store that substitutes from a cache, trusting some keys.

use std::fs;
use std::time::Duration;

use crate::nix::prefix::{Outcome, Prefix};
use crate::nix::release::Release;
use crate::support::keys::Key;

/// Ten pauses, from a quarter of a second to three minutes.
const LONG_COPY: Duration = Duration::from_secs(20 * 60);

/// A client with a store, a home and so a narinfo cache of its own.
pub(crate) struct Client {
    prefix: Prefix,
    cache: String,
}

impl Client {
    /// A client of the cache at this URL, which requires a signature by one of these keys.
    pub(crate) fn new(release: Release, cache: &str, trusted: &[&Key]) -> Self {
        let keys: Vec<_> = trusted.iter().map(|key| key.public.as_str()).collect();
        let config = [
            "require-sigs = true".to_owned(),
            format!("trusted-public-keys = {}", keys.join(" ")),
            format!("substituters = {cache}"),
        ];
        Self { prefix: Prefix::new(release, &config), cache: cache.to_owned() }
    }

    /// Trusts servers that show this certificate.
    pub(crate) fn trust_certificate(&self, pem: &str) {
        fs::write(self.prefix.on_host("/nix/etc/ca.pem"), pem).unwrap();
    }

    /// Has a password for a host, in the file that Nix looks into unless `netrc-file` says otherwise.
    pub(crate) fn has_password(&self, host: &str, user: &str, password: &str) {
        let line = format!("machine {host} login {user} password {password}\n");
        fs::write(self.prefix.on_host("/nix/etc/netrc"), line).unwrap();
    }

    /// A command of `nix` that reads from the cache as a store: before 2.4 `ls` and `cat` had other names.
    pub(crate) fn nix_store(&self, command: &str, arguments: &[&str]) -> Outcome {
        let old = format!("{command}-store");
        let words: &[&str] = match (command, self.prefix.release()) {
            ("path-info", _) => &["nix", "path-info"],
            (_, Release::Nix2_3) => &["nix", &old],
            (_, _) => &["nix", "store", command],
        };
        self.prefix.run(&[words, &["--store", &self.cache], arguments].concat())
    }

    /// A command as it is.
    pub(crate) fn run(&self, command: &[&str]) -> Outcome {
        self.prefix.run(command)
    }

    /// `nix copy` of the closures of these paths, from the cache to the store.
    pub(crate) fn copy(&self, paths: &[&str]) -> Outcome {
        self.prefix.run(&[&["nix", "copy", "--from", &self.cache], paths].concat())
    }

    /// The same through a network that breaks more often than clients put up with by default. Each time they wait twice
    /// as long as before, up to minutes.
    pub(crate) fn copy_persistently(&self, paths: &[&str]) -> Outcome {
        let options = ["--option", "download-attempts", "20"];
        let command = [&["nix", "copy", "--from", &self.cache], &options[..], paths].concat();
        self.prefix.run_within(LONG_COPY, &command, Vec::new())
    }

    /// `nix-store --realise`: substitutes the closures of these paths, as builds do.
    pub(crate) fn realise(&self, paths: &[&str]) -> Outcome {
        self.prefix.run(&[&["nix-store", "--realise"], paths].concat())
    }

    /// `nix log`: the log of the build of a path that only the cache has.
    pub(crate) fn log(&self, path: &str) -> Outcome {
        self.prefix.run(&["nix", "log", path])
    }

    /// Reads the closures of these paths again and compares them with their hashes; gives the closures' paths, sorted.
    pub(crate) fn verified_closure(&self, paths: &[&str]) -> Vec<String> {
        let closure = self.prefix.run(&[&["nix-store", "--query", "--requisites"], paths].concat()).text();
        let mut closure: Vec<_> = closure.lines().map(str::to_owned).collect();
        closure.sort_unstable();
        let all: Vec<_> = closure.iter().map(String::as_str).collect();
        let _ = self.prefix.run(&[&["nix-store", "--verify-path"], &*all].concat()).stdout();
        closure
    }

    /// `nix-store --query --hash`: the NAR hashes, as registered, in lines.
    pub(crate) fn nar_hashes(&self, paths: &[&str]) -> String {
        self.prefix.run(&nar_hashes(paths)).text()
    }

    /// Whether the path is valid in the client's store.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.prefix.run(&["nix-store", "--check-validity", path]).succeeded()
    }
}

/// The command that prints the NAR hash of each path, in their order, in a line.
pub(crate) fn nar_hashes<'p>(paths: &[&'p str]) -> Vec<&'p str> {
    [&["nix-store", "--query", "--hash"], paths].concat()
}
