//! Real clients of four releases before hosts of a fleet.

use super::host::{Host, Item};
use super::shared_bucket::{Fleet, eventually, narinfo};
use crate::nix::client::{Client, nar_hashes};
use crate::nix::release::Release;
use crate::support::engine::Kind;
use crate::support::keys::{self, Key};
use crate::support::store_item::noise;

/// Size that is redirected, in bytes.
const LARGE: usize = 3 << 20;

/// A closure of three paths that three hosts have built, one after the other: each has what its own refers to as well, which
/// the others had published.
struct Built {
    leaf: Host,
    middle: Host,
    top: Host,
    paths: [String; 3],
}

fn built(fleet: &Fleet, keys: &str) -> Built {
    let keys = format!("publish = \"all\"\n{keys}");
    let [leaf, middle, top] = ["leaf", "middle", "top"].map(|name| fleet.host(name, &keys));
    let leaf_item = Item::new("leaf", noise(LARGE), &[]);
    let middle_item = Item::new("middle", "in between\n", &[&leaf_item.path]);
    let top_item = Item::new("top", "on top\n", &[&leaf_item.path, &middle_item.path]);
    let items = [leaf_item, middle_item, top_item];
    for (number, host) in [&leaf, &middle, &top].into_iter().enumerate() {
        host.add(&items[..=number]);
        eventually("the path is in the bucket", || fleet.has(&items[number].path));
    }
    Built { leaf, middle, top, paths: items.map(|item| item.path) }
}

/// Copies the closure with a client of this release from this host, and checks contents and signatures.
fn copies(release: Release, host: &Host, built: &Built) {
    let [_, _, top] = &built.paths;
    let client = Client::new(release, host.url(), &[&keys::OURS]);
    let _ = client.copy(&[top]).stdout();
    let mut all = built.paths.clone();
    all.sort_unstable();
    assert_eq!(client.verified_closure(&[top]), all, "{release} from {}", host.name);
    let all = [&*all[0], &*all[1], &*all[2]];
    assert_eq!(client.nar_hashes(&all), built.top.daemon().run(&nar_hashes(&all)).text(), "{release}");
}

/// Every release copies the closure from every host, from one that has nothing and one that has no store, and again once
/// those that built it are gone.
fn every_release_copies(kind: Kind, keys: &str) {
    let Some(fleet) = Fleet::shared(kind) else { return };
    let mut built = built(&fleet, keys);
    let (empty, gateway) = (fleet.host("empty", keys), fleet.gateway("gateway", keys));
    for host in [&built.leaf, &built.middle, &built.top, &empty, &gateway] {
        eventually("the closure is known everywhere", || {
            built.paths.iter().all(|path| narinfo(host.http(), path).status == 200)
        });
    }
    for release in Release::ALL {
        for host in [&built.leaf, &built.middle, &empty, &gateway] {
            copies(release, host, &built);
        }
    }
    for host in [&mut built.leaf, &mut built.middle, &mut built.top] {
        host.kill();
    }
    for release in Release::ALL {
        for host in [&empty, &gateway] {
            copies(release, host, &built);
        }
    }
}

#[test]
fn every_release_copies_a_closure_of_which_each_path_was_built_by_another_host_by_redirects_to_swift() {
    every_release_copies(Kind::Swift, "redirect_from = \"1 MiB\"\n");
}

#[test]
fn every_release_copies_a_closure_of_which_each_path_was_built_by_another_host_through_any_host() {
    every_release_copies(Kind::Swift, "redirect_from = \"never\"\n");
}

#[test]
fn every_release_copies_a_closure_of_which_each_path_was_built_by_another_host_with_rclone() {
    every_release_copies(Kind::Rclone, "redirect_from = 0\n");
}

#[test]
fn plain_nix_copies_a_closure_of_three_hosts_from_the_bucket_itself() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let built = built(&fleet, "");
    let [_, _, top] = &built.paths;
    for release in [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34] {
        let client = Client::new(release, &fleet.public_url(), &[&keys::OURS]);
        let _ = client.copy(&[top]).stdout();
        assert_eq!(client.verified_closure(&[top]).len(), 3, "{release}");
        assert!(client.nix_store("ls", &[top]).succeeded(), "{release}");
    }
}

#[test]
fn hosts_that_sign_with_keys_of_their_own_serve_each_others_paths_if_they_trust_them() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let trusts = |key: &Key| format!("publish = \"all\"\ntrusted_public_keys = [\"{}\"]\n", key.public);
    let one = fleet.host("one", &trusts(&keys::FOREIGN));
    let two = fleet.host_with_key("two", &keys::FOREIGN, &trusts(&keys::OURS));
    let alone = fleet.host("alone", "");
    let (leaf, top) = (Item::new("of-one", "of one\n", &[]), Item::new("of-two", "of two\n", &[]));
    one.add(std::slice::from_ref(&leaf));
    two.add(std::slice::from_ref(&top));
    for host in [&one, &two] {
        for item in [&leaf, &top] {
            eventually("the path is known", || narinfo(host.http(), &item.path).status == 200);
        }
        let client = Client::new(Release::Nix2_26, host.url(), &[&keys::OURS, &keys::FOREIGN]);
        let _ = client.copy(&[&leaf.path, &top.path]).stdout();
    }
    eventually("the path is known", || narinfo(alone.http(), &leaf.path).status == 200);
    assert_eq!(narinfo(alone.http(), &top.path).status, 404, "no trusted key has signed it");
}
