//! Every client release before every daemon release: closures are copied where the key is trusted, and only there.

use crate::nix::client::{Client, nar_hashes};
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::server::Harmonia;

/// A test for each pair, so that a failure names its pair.
macro_rules! pairs {
    ($($client:ident: $release:ident,)*) => {
        $(mod $client {
            use super::{Release, copies_what_it_trusts};

            #[test]
            fn copies_from_nix_2_3() {
                copies_what_it_trusts(Release::$release, Release::Nix2_3);
            }

            #[test]
            fn copies_from_nix_2_8() {
                copies_what_it_trusts(Release::$release, Release::Nix2_8);
            }

            #[test]
            fn copies_from_nix_2_26() {
                copies_what_it_trusts(Release::$release, Release::Nix2_26);
            }

            #[test]
            fn copies_from_nix_2_34() {
                copies_what_it_trusts(Release::$release, Release::Nix2_34);
            }
        })*
    };
}

pairs! {
    nix_2_3: Nix2_3,
    nix_2_8: Nix2_8,
    nix_2_26: Nix2_26,
    nix_2_34: Nix2_34,
}

fn copies_what_it_trusts(client: Release, daemon: Release) {
    let daemon = Daemon::shared(daemon);
    let harmonia = Harmonia::for_daemon(daemon);
    let url = harmonia.url();
    let all: Vec<_> = daemon.content().iter().map(|(_, path)| path).collect();
    let closure = closure(daemon, &all);

    // The way of `nix copy`, and the way of builds.
    let copying = Client::new(client, url, &[&keys::OURS]);
    let _ = copying.copy(&all).stdout();
    let building = Client::new(client, url, &[&keys::OURS]);
    let _ = building.realise(&all).stdout();
    let hashes = daemon.run(&nar_hashes(&all)).text();
    for client in [copying, building] {
        assert_eq!(client.verified_closure(&all), closure);
        assert_eq!(client.nar_hashes(&all), hashes);
    }

    refuses_what_it_does_not_trust(client, daemon, url);
}

/// Only the key of another cache is trusted: what that one signed is taken, and what proves itself, but nothing else.
fn refuses_what_it_does_not_trust(client: Release, daemon: &Daemon, url: &str) {
    let content = daemon.content();
    let distrusting = Client::new(client, url, &[&keys::FOREIGN]);
    let regular = content.path("regular");
    let reason = distrusting.copy(&[regular]).failure();
    assert!(reason.contains("signature"), "copy failed for another reason: {reason}");
    let _ = distrusting.realise(&[regular]).failure();
    // Of several failures at once Nix may report that it was stopping already, so that this is not asked why.
    let many = content.path("many-references");
    let _ = distrusting.copy(&[many]).failure();
    assert!(!distrusting.has(regular) && !distrusting.has(many));

    let accepted = ["foreign-signature", "fixed-recursive", "text-with-reference"].map(|name| content.path(name));
    let _ = distrusting.copy(&accepted).stdout();
    assert_eq!(distrusting.verified_closure(&accepted), closure(daemon, &accepted));
}

fn closure(daemon: &Daemon, paths: &[&str]) -> Vec<String> {
    let closure = daemon.run(&[&["nix-store", "--query", "--requisites"], paths].concat()).text();
    let mut closure: Vec<_> = closure.lines().map(str::to_owned).collect();
    closure.sort_unstable();
    closure
}
