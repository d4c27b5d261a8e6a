//! Publishers that are killed with SIGKILL between any two writes, and in the middle of one.

use std::collections::{BTreeMap, BTreeSet};

use super::host::{Host, Item};
use super::nars::{gets, signed_by};
use super::shared_bucket::{Fleet, eventually, narinfo};
use crate::support::engine::Kind;
use crate::support::keys;
use crate::support::s3_request::Kind as Object;
use crate::support::store_item::{hash_part, noise};

/// Checks that each narinfo of the bucket has its NAR and all of its references.
fn is_closed(fleet: &Fleet, items: &[Item]) -> usize {
    let names: BTreeSet<_> = fleet.names("").into_iter().collect();
    let paths: BTreeMap<_, _> = items.iter().map(|item| (hash_part(&item.path), item)).collect();
    let narinfos = names.iter().filter_map(|name| name.strip_suffix(".narinfo"));
    let mut count = 0;
    for hash in narinfos {
        let item = paths[hash];
        let text = fleet.object(&format!("{hash}.narinfo"));
        let signed = signed_by(&keys::OURS, &item.path, text.text());
        assert!(names.contains(&signed.url[1..]), "{} has no NAR", item.path);
        for reference in &item.references {
            let name = format!("{}.narinfo", hash_part(reference));
            assert!(names.contains(&name), "{} has no {reference}", item.path);
        }
        count += 1;
    }
    count
}

pub(super) fn all_is_there(fleet: &Fleet, host: &Host, items: &[Item]) {
    eventually("all is published", || items.iter().all(|item| fleet.has(&item.path)));
    assert_eq!(is_closed(fleet, items), items.len());
    let reader = fleet.gateway("reader", "");
    for item in items {
        eventually("the path is known", || narinfo(reader.http(), &item.path).status == 200);
        gets(reader.http(), &item.path);
    }
    drop(reader);
    gets(host.http(), &items[0].path);
}

#[test]
fn a_publisher_that_is_killed_between_any_two_writes_leaves_no_gap_and_goes_on_when_it_is_back() {
    let Some(fleet) = Fleet::own(Kind::Rclone) else { return };
    // Names of their own for each number of writes, so that each begins with an empty bucket for them.
    for writes in 0.. {
        let mut host = fleet.host("victim", "publish = \"all\"\n");
        let items = Item::closure("cut", 3, 3000);
        host.proxy.hold_after_writes(writes);
        host.add(&items);
        let all = || items.iter().all(|item| fleet.has(&item.path));
        let is_held = host.proxy.wait_until_held_or(|| all() && has_segment(&fleet));
        host.kill();
        is_closed(&fleet, &items);
        host.proxy.heal();
        host.restart();
        all_is_there(&fleet, &host, &items);
        drop(host);
        fleet.wipe();
        if !is_held {
            assert!(writes > 2 * items.len(), "only {writes} writes");
            return;
        }
    }
}

fn has_segment(fleet: &Fleet) -> bool {
    !fleet.names("harmonia/v1/index/").is_empty()
}

#[test]
fn a_large_upload_goes_on_after_a_kill_with_the_parts_that_were_sent() {
    const SIZE: usize = 48 << 20;
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let mut host = fleet.host("uploader", "publish = \"all\"\n");
    let item = Item::new("parts", noise(SIZE), &[]);
    // The beginning, and some parts.
    host.proxy.hold_after_writes(5);
    host.add(std::slice::from_ref(&item));
    assert!(host.proxy.wait_until_held_or(|| fleet.has(&item.path)), "nothing was sent in parts");
    host.kill();
    assert!(!fleet.has(&item.path));
    let before = host.proxy.nar_bytes_sent();
    assert!(before > 0, "no part was sent");
    host.proxy.heal();
    host.restart();
    eventually("it is published", || fleet.has(&item.path));
    gets(host.http(), &item.path);
    let sent = host.proxy.nar_bytes_sent();
    let again = sent.saturating_sub(SIZE as u64);
    assert!(again <= before / 2 + (8 << 20), "{sent} bytes were sent in all, {before} of them before the kill");
    assert_eq!(host.proxy.count("PUT", Object::NarInfo), 1);
}
