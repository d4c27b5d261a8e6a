//! Every client release before every daemon release.

use super::Cache;
use super::source::Source;
use crate::nix::client::{Client, nar_hashes};
use crate::nix::release::Release;
use crate::support::keys;

#[test]
fn pushes_to_nix_2_3() {
    pushes_to(Release::Nix2_3);
}

#[test]
fn pushes_to_nix_2_8() {
    pushes_to(Release::Nix2_8);
}

#[test]
fn pushes_to_nix_2_26() {
    pushes_to(Release::Nix2_26);
}

#[test]
fn pushes_to_nix_2_34() {
    pushes_to(Release::Nix2_34);
}

/// Returns the parameters of the store's URL, so that each client uses each compression before some daemon.
fn parameters(client: Release, daemon: Release) -> &'static str {
    let of_all = ["", "?compression=none", "?compression=bzip2"];
    let of_newer = ["", "?compression=zstd", "?compression=gzip", "?compression=none", "?compression=bzip2"];
    let compressions: &[_] = if client == Release::Nix2_3 { &of_all } else { &of_newer };
    compressions[(client as usize + daemon as usize) % compressions.len()]
}

fn pushes_to(daemon: Release) {
    let cache = Cache::start(daemon);
    let url = cache.harmonia.url();
    for (client, digit) in Release::ALL.into_iter().zip('3'..) {
        let source = Source::new(client, digit, 1 << 20);
        let to = format!("{url}{}", parameters(client, daemon));
        let pushed = [&*source.top, &*source.leaf, &*source.addressed];
        for _ in 0..2 {
            let _ = source.push(&to, &[&source.top, &source.addressed]).stdout();
        }
        assert_eq!(cache.daemon.run(&nar_hashes(&pushed)).text(), source.nar_hashes(&pushed), "{client}: {to}");
        let _ = cache.daemon.run(&[&["nix-store", "--verify-path"], &pushed[..]].concat()).stdout();

        let refused = source.push(&to, &[&source.unsigned]).failure();
        assert!(refused.contains("403"), "{client} to {daemon}: {refused}");
        // Nix 2.3 prints no bodies.
        let says_why = refused.contains("lacks a") && refused.contains("sign it (nix store sign)");
        assert!(says_why || client == Release::Nix2_3, "{client} to {daemon}: {refused}");
        assert!(!cache.is_valid(&source.unsigned));
        assert_eq!(cache.spooled(), 0);

        // Served, with a signature of the cache.
        let reader = Client::new(client, url, &[&keys::OURS]);
        let _ = reader.copy(&[&source.top]).stdout();
        assert_eq!(reader.verified_closure(&[&source.top]), [&*source.top, &*source.leaf]);
    }
}
