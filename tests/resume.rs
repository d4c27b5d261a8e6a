//! Real clients whose downloads break: statement 43 of the conformance list.

use crate::nar_cache::{keeping, url_of};
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::keys;
use crate::support::proxy::{Fault, Proxy};
use crate::support::release::Release;
use crate::support::scratch;
use crate::support::served::{self, narinfo_url};
use crate::support::server::Harmonia;

const PIECE: u64 = 3 << 20;

/// Copies the large path through a network with these faults, and gives the offsets at which the client went on.
fn resumed_at(server: &Harmonia, release: Release, faults: &[Fault]) -> Vec<u64> {
    let proxy = Proxy::new(server.address(), faults);
    let client = Client::new(release, &proxy.url(), &[&keys::OURS]);
    let path = served::content().path("large");
    let _ = client.copy(&[path]).stdout();
    assert_eq!(client.verified_closure(&[path]), [path]);
    let offset = |range: Option<String>| match range {
        None => 0,
        Some(range) => range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap(),
    };
    proxy.ranges().into_iter().map(offset).collect()
}

fn finishes(release: Release) {
    let server = served::server();
    let offsets = resumed_at(server, release, &[Fault::Cut(PIECE); 4]);
    assert_eq!(offsets.len(), 5, "{offsets:?}");
    assert!(offsets[0] == 0 && offsets.windows(2).all(|two| two[0] < two[1]), "{offsets:?}");

    let offsets = resumed_at(server, release, &[Fault::Cut(PIECE), Fault::Unavailable]);
    let [0, at, again] = offsets[..] else { panic!("{offsets:?}") };
    assert!(at > 0 && at == again, "{offsets:?}");
}

#[test]
fn s43_nix_2_8_finishes_after_four_cuts_and_after_a_503_in_the_middle() {
    finishes(Release::Nix2_8);
}

#[test]
fn s43_nix_2_34_finishes_after_four_cuts_and_after_a_503_in_the_middle() {
    finishes(Release::Nix2_34);
}

/// The compressed form is resumed within its frames, while it is made and when it is there; what was sent is not sent again.
fn finishes_compressed(release: Release) {
    let dir = scratch::fresh_dir().join("nars");
    let daemon = format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n",
        Daemon::shared(Release::Nix2_34).socket().display(),
        keys::OURS.secret.display()
    );
    let server = Harmonia::start(&keeping(&dir, &daemon));
    let size = {
        let url = url_of(server.http(), &narinfo_url("large"));
        // Made by another server: this one begins when the client does.
        let other = Harmonia::start(&keeping(&scratch::fresh_dir().join("nars"), &daemon));
        other.http().get(&url).body.len() as u64
    };
    for _ in 0..2 {
        let offsets = resumed_at(&server, release, &[Fault::Cut(size / 6); 4]);
        assert_eq!(offsets.len(), 5, "{offsets:?} of {size}");
        assert!(offsets[0] == 0 && offsets.windows(2).all(|two| two[0] < two[1]), "{offsets:?} of {size}");
    }
}

#[test]
fn s45_nix_2_8_finishes_a_compressed_nar_after_four_cuts() {
    finishes_compressed(Release::Nix2_8);
}

#[test]
fn s45_nix_2_26_finishes_a_compressed_nar_after_four_cuts() {
    finishes_compressed(Release::Nix2_26);
}

#[test]
fn s45_nix_2_34_finishes_a_compressed_nar_after_four_cuts() {
    finishes_compressed(Release::Nix2_34);
}
