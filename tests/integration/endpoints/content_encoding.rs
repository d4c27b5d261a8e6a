//! zstd as a content coding: who gets it, and that it changes nothing but the form.

use std::sync::OnceLock;

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::served::{self};
use crate::support::keys;
use crate::support::server::{Harmonia, compressing};

fn server() -> &'static Harmonia {
    static SERVER: OnceLock<Harmonia> = OnceLock::new();
    SERVER.get_or_init(|| {
        Harmonia::start(&format!(
            "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n{}",
            Daemon::shared(Release::Nix2_34).socket().display(),
            keys::OURS.secret.display(),
            compressing()
        ))
    })
}

#[test]
fn real_clients_copy_what_is_coded() {
    for release in [Release::Nix2_26, Release::Nix2_34] {
        let client = Client::new(release, server().url(), &[&keys::OURS]);
        let paths = ["many-references", "odd-entries", "symlink"].map(|name| served::content().path(name));
        let _ = client.copy(&paths).stdout();
        assert!(client.verified_closure(&paths).len() > 300, "{release}");
    }
}
