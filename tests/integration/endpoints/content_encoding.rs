//! zstd as a content coding: which requests get it, and that nothing else differs.

use std::sync::OnceLock;

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server::{self};
use crate::support::keys;
use crate::support::server::{Harmonia, nar_cache_on_demand};

fn server() -> &'static Harmonia {
    static SERVER: OnceLock<Harmonia> = OnceLock::new();
    SERVER.get_or_init(|| {
        Harmonia::start(&format!(
            "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n{}",
            Daemon::shared(Release::Nix2_34).socket().display(),
            keys::OURS.secret.display(),
            nar_cache_on_demand()
        ))
    })
}

#[test]
fn real_clients_copy_encoded_nars() {
    for release in [Release::Nix2_26, Release::Nix2_34] {
        let client = Client::new(release, server().url(), &[&keys::OURS]);
        let paths = ["many-references", "odd-entries", "symlink"].map(|name| shared_server::content().path(name));
        let _ = client.copy(&paths).stdout();
        assert!(client.verified_closure(&paths).len() > 300, "{release}");
    }
}
