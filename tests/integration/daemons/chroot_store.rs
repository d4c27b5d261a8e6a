//! Chroot store: filled by `nix … --store /guest`, served with `real_nix_store` and `daemon_command`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use crate::nix::client::Client;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

/// Chroot store with a file and its build log.
struct Guest {
    prefix: Prefix,
    path: String,
    drv: String,
}

impl Guest {
    fn of(release: Release) -> Self {
        let prefix = Prefix::new(release, &[]);
        fs::write(prefix.on_host("/nix/tmp/guest-file"), "of a guest").unwrap();
        let path = prefix.run(&["nix-store", "--store", "/nix/guest", "--add", "/nix/tmp/guest-file"]).text();
        assert!(path.starts_with("/nix/store/"), "{path}");
        let guest = Self { prefix, path, drv: format!("{}-guest.drv", "7".repeat(32)) };
        assert!(guest.real().join(guest.path.strip_prefix("/nix/store/").unwrap()).is_file());
        let logs = guest.prefix.on_host("/nix/guest/nix/var/log/nix/drvs/77");
        fs::create_dir_all(&logs).unwrap();
        fs::write(logs.join(&guest.drv[2..]), "of a guest's build").unwrap();
        guest
    }

    /// Returns the directory of its files on the host.
    fn real(&self) -> PathBuf {
        self.prefix.on_host("/nix/guest/nix/store")
    }

    fn is_served(&self, harmonia: &Harmonia) {
        let client = Client::new(Release::Nix2_34, harmonia.url(), &[&keys::OURS]);
        let (path, release) = (&self.path, self.prefix.release());
        let _ = client.copy(&[path]).stdout();
        assert_eq!(client.verified_closure(&[path]), [path.as_str()], "{release}");
        let http = harmonia.http();
        assert_eq!(http.get(&format!("/serve/{}", hash_part(path))).text(), "of a guest", "{release}");
        assert_eq!(http.get(&format!("/log/{}", self.drv)).text(), "of a guest's build", "{release}");
    }
}

#[test]
fn a_chroot_store_is_served_under_the_names_that_it_says() {
    for release in [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34] {
        let guest = Guest::of(release);
        let command = guest.prefix.script(&["nix-daemon", "--stdio", "--store", "/nix/guest"]);
        let harmonia = Harmonia::start(&format!(
            "daemon_command = [\"{}\"]\nreal_nix_store = \"{}\"\nsign_key_paths = [\"{}\"]\n",
            command.display(),
            guest.real().display(),
            keys::OURS.secret.display()
        ));
        guest.is_served(&harmonia);
    }
}

/// Only `real_nix_store` is set.
#[test]
fn the_daemon_of_a_chroot_store_is_found_by_its_files() {
    for release in [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34] {
        let guest = Guest::of(release);
        let root = guest.prefix.on_host("/nix/guest");
        // As seen from within, where the prefix is elsewhere.
        let script = guest.prefix.script(&["nix-daemon", "--stdio", "--store", "/nix/guest"]);
        let bin = scratch::fresh_dir();
        let text =
            format!("#!/bin/sh\n[ \"$*\" = \"--stdio --store {}\" ] && exec {}\n", root.display(), script.display());
        fs::write(bin.join("nix-daemon"), text).unwrap();
        fs::set_permissions(bin.join("nix-daemon"), Permissions::from_mode(0o755)).unwrap();
        let config = scratch::fresh_dir().join("config.toml");
        let (real, key) = (guest.real(), &keys::OURS.secret);
        let text = format!("bind = \"127.0.0.1:0\"\nreal_nix_store = {real:?}\nsign_key_paths = [{key:?}]\n");
        fs::write(&config, text).unwrap();
        let program = || {
            let mut program = Harmonia::program();
            program.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).arg("--config").arg(&config);
            program
        };
        let harmonia = Harmonia::launch(program());
        guest.is_served(&harmonia);
        let checked = program().arg("check").stdout(Stdio::piped()).output().unwrap();
        let output = String::from_utf8(checked.stdout).unwrap();
        for line in [
            format!("(real_nix_store is in the store below {})", root.display()),
            format!("build logs: read from {}", root.join("nix/var/log/nix").display()),
        ] {
            assert!(output.contains(&line), "{line} is not in:\n{output}");
        }
    }
}
