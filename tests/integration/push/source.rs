//! Store of a client that pushes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::nix::content::sign;
use crate::nix::prefix::{Outcome, Prefix};
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::store_item::noise;

/// A file of a binary cache.
pub(crate) struct File {
    /// URL below that of the cache.
    pub(crate) target: String,
    pub(crate) content: Vec<u8>,
}

/// A store with a signed path, one that it refers to, one without a signature and one with a content address.
pub(crate) struct Source {
    prefix: Prefix,
    /// Signed directory that refers to itself and to `leaf`.
    pub(crate) top: String,
    /// Signed file of random bytes.
    pub(crate) leaf: String,
    pub(crate) unsigned: String,
    pub(crate) addressed: String,
}

impl Source {
    /// Creates a store whose paths have this digit in their hash parts, and a leaf of this size.
    pub(crate) fn new(release: Release, digit: char, size: usize) -> Self {
        let prefix = Prefix::new(release, &[]);
        let path = |name: &str| format!("/nix/store/{}{name}", digit.to_string().repeat(31));
        let (top, leaf, unsigned) = (path("0-top"), path("1-leaf"), path("2-unsigned"));
        fs::write(prefix.on_host(&leaf), noise(size)).unwrap();
        fs::write(prefix.on_host(&unsigned), "not signed\n").unwrap();
        let directory = prefix.on_host(&top);
        fs::create_dir_all(directory.join("bin")).unwrap();
        fs::write(directory.join("bin/run"), format!("#!/bin/sh\n{top} {leaf}\n")).unwrap();
        fs::set_permissions(directory.join("bin/run"), Permissions::from_mode(0o755)).unwrap();
        symlink(&leaf, directory.join("leaf")).unwrap();
        let registration = format!("{leaf}\n\n0\n{unsigned}\n\n0\n{top}\n\n2\n{leaf}\n{top}\n");
        let _ = prefix.run_with_input(&["nix-store", "--register-validity"], registration.into_bytes()).stdout();
        sign(&prefix, &keys::FOREIGN, &leaf);
        sign(&prefix, &keys::FOREIGN, &top);
        fs::write(prefix.on_host("/nix/tmp/addressed"), format!("addressed {digit}\n")).unwrap();
        let addressed = prefix.run(&["nix-store", "--add", "/nix/tmp/addressed"]).text();
        Self { prefix, top, leaf, unsigned, addressed }
    }

    /// Adds a signed file, whose hash part has this digit but for its last two.
    pub(super) fn add_leaf(&self, digit: char, number: usize, size: usize) -> String {
        let path = format!("/nix/store/{}{number:02}-leaf-{number}", digit.to_string().repeat(30));
        fs::write(self.prefix.on_host(&path), &noise(size + number)[number..]).unwrap();
        let registration = format!("{path}\n\n0\n").into_bytes();
        let _ = self.prefix.run_with_input(&["nix-store", "--register-validity"], registration).stdout();
        sign(&self.prefix, &keys::FOREIGN, &path);
        path
    }

    /// Returns the release of the client.
    pub(super) fn release(&self) -> Release {
        self.prefix.release()
    }

    /// Trusts this server certificate.
    pub(super) fn trust_certificate(&self, pem: &str) {
        fs::write(self.prefix.on_host("/nix/etc/ca.pem"), pem).unwrap();
    }

    /// Stores a password for a host, in the default `netrc-file`.
    pub(crate) fn has_password(&self, host: &str, user: &str, password: &str) {
        let line = format!("machine {host} login {user} password {password}\n");
        fs::write(self.prefix.on_host("/nix/etc/netrc"), line).unwrap();
    }

    /// Runs `nix copy` of the closures of these paths to a store.
    pub(crate) fn push(&self, to: &str, paths: &[&str]) -> Outcome {
        self.prefix.run(&[&["nix", "copy", "--to", to], paths].concat())
    }

    /// Returns the NAR hashes of these paths, one a line.
    pub(crate) fn nar_hashes(&self, paths: &[&str]) -> String {
        self.prefix.run(&[&["nix-store", "--query", "--hash"], paths].concat()).text()
    }

    /// Returns what a push of a path without references would upload: the NAR, without compression, and the narinfo.
    pub(crate) fn files(&self, path: &str) -> [File; 2] {
        let _ = self.push("file:///nix/tmp/cache?compression=none", &[path]).stdout();
        let read = |target: String| {
            let content = fs::read(self.prefix.on_host("/nix/tmp/cache").join(&target)).unwrap();
            File { target, content }
        };
        let narinfo = read(format!("{}.narinfo", crate::support::store_item::hash_part(path)));
        let text = std::str::from_utf8(&narinfo.content).unwrap();
        let url = crate::support::narinfo::value(text, "URL").to_owned();
        [read(url), narinfo]
    }
}
