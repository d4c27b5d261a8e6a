//! Real clients whose downloads break: statement 43 of the conformance list.

use crate::support::client::Client;
use crate::support::keys;
use crate::support::proxy::{Fault, Proxy};
use crate::support::release::Release;
use crate::support::served;

const PIECE: u64 = 3 << 20;

/// Copies the large path through a network with these faults, and gives the offsets at which the client went on.
fn resumed_at(release: Release, faults: &[Fault]) -> Vec<u64> {
    let proxy = Proxy::new(served::server().address(), faults);
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
    let offsets = resumed_at(release, &[Fault::Cut(PIECE); 4]);
    assert_eq!(offsets.len(), 5, "{offsets:?}");
    assert!(offsets[0] == 0 && offsets.windows(2).all(|two| two[0] < two[1]), "{offsets:?}");

    let offsets = resumed_at(release, &[Fault::Cut(PIECE), Fault::Unavailable]);
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
