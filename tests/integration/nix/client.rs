//! Real client of a Nix release: an empty store that substitutes from a cache and trusts some keys.

use std::fs;
use std::time::Duration;

use crate::nix::prefix::{Outcome, Prefix};
use crate::nix::release::Release;
use crate::support::keys::Key;

/// Upper bound of ten pauses, from a quarter of a second to three minutes.
const LONG_COPY: Duration = Duration::from_secs(20 * 60);

/// Client with a store and a home of its own, and so an empty narinfo cache.
pub(crate) struct Client {
    prefix: Prefix,
    cache: String,
}

impl Client {
    /// Returns a client of the cache at this URL that requires a signature by one of these keys.
    pub(crate) fn new(release: Release, cache: &str, trusted: &[&Key]) -> Self {
        let keys: Vec<_> = trusted.iter().map(|key| key.public.as_str()).collect();
        let config = [
            "require-sigs = true".to_owned(),
            format!("trusted-public-keys = {}", keys.join(" ")),
            format!("substituters = {cache}"),
        ];
        Self { prefix: Prefix::new(release, &config), cache: cache.to_owned() }
    }

    /// Trusts this server certificate.
    pub(crate) fn trust_certificate(&self, pem: &str) {
        fs::write(self.prefix.on_host("/nix/etc/ca.pem"), pem).unwrap();
    }

    /// Stores a client certificate and its key, in the files `client.pem` and `client.key` below `/nix/etc`.
    pub(crate) fn has_certificate(&self, certificate: &str, key: &str) {
        fs::write(self.prefix.on_host("/nix/etc/client.pem"), certificate).unwrap();
        fs::write(self.prefix.on_host("/nix/etc/client.key"), key).unwrap();
    }

    /// Stores a password for a host, in the default `netrc-file`.
    pub(crate) fn has_password(&self, host: &str, user: &str, password: &str) {
        let line = format!("machine {host} login {user} password {password}\n");
        fs::write(self.prefix.on_host("/nix/etc/netrc"), line).unwrap();
    }

    /// Runs a command of `nix` that reads from the cache as a store: before 2.4 `ls` and `cat` had other names.
    pub(crate) fn nix_store(&self, command: &str, arguments: &[&str]) -> Outcome {
        let old = format!("{command}-store");
        let words: &[&str] = match (command, self.prefix.release()) {
            ("path-info", _) => &["nix", "path-info"],
            (_, Release::Nix2_3) => &["nix", &old],
            (_, _) => &["nix", "store", command],
        };
        self.prefix.run(&[words, &["--store", &self.cache], arguments].concat())
    }

    /// Runs a command.
    pub(crate) fn run(&self, command: &[&str]) -> Outcome {
        self.prefix.run(command)
    }

    /// Runs `nix copy` of the closures of these paths from the cache to the store.
    pub(crate) fn copy(&self, paths: &[&str]) -> Outcome {
        self.prefix.run(&[&["nix", "copy", "--from", &self.cache], paths].concat())
    }

    /// Runs `nix copy` with more attempts than by default, for a network that often fails. Nix doubles its wait after each
    /// failure, up to minutes.
    pub(crate) fn copy_persistently(&self, paths: &[&str]) -> Outcome {
        let options = ["--option", "download-attempts", "20"];
        let command = [&["nix", "copy", "--from", &self.cache], &options[..], paths].concat();
        self.prefix.run_within(LONG_COPY, &command, Vec::new())
    }

    /// Runs `nix-store --realise`: substitutes the closures of these paths, as builds do.
    pub(crate) fn realise(&self, paths: &[&str]) -> Outcome {
        self.prefix.run(&[&["nix-store", "--realise"], paths].concat())
    }

    /// Runs `nix log` of a path whose build log only the cache has.
    pub(crate) fn log(&self, path: &str) -> Outcome {
        self.prefix.run(&["nix", "log", path])
    }

    /// Verifies the contents of the closures of these paths; returns the paths of the closures, sorted.
    pub(crate) fn verified_closure(&self, paths: &[&str]) -> Vec<String> {
        let closure = self.prefix.run(&[&["nix-store", "--query", "--requisites"], paths].concat()).text();
        let mut closure: Vec<_> = closure.lines().map(str::to_owned).collect();
        closure.sort_unstable();
        let all: Vec<_> = closure.iter().map(String::as_str).collect();
        let _ = self.prefix.run(&[&["nix-store", "--verify-path"], &*all].concat()).stdout();
        closure
    }

    /// Runs `nix-store --query --hash`: the registered NAR hashes, one a line.
    pub(crate) fn nar_hashes(&self, paths: &[&str]) -> String {
        self.prefix.run(&nar_hashes(paths)).text()
    }

    /// Returns whether the path is valid in the client's store.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.prefix.run(&["nix-store", "--check-validity", path]).succeeded()
    }
}

/// Returns the command that prints the NAR hash of each path, one a line, in order.
pub(crate) fn nar_hashes<'p>(paths: &[&'p str]) -> Vec<&'p str> {
    [&["nix-store", "--query", "--hash"], paths].concat()
}
