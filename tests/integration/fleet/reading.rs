//! What a host answers for paths of others while the object store fails.

use std::time::Duration;

use super::host::{Host, Item};
use super::nars::{follow, gets, is_right, signed};
use super::shared_bucket::{Fleet, eventually, narinfo};
use crate::support::engine::Kind;
use crate::support::s3_proxy::Fault;
use crate::support::s3_request::Kind as Object;
use crate::support::store_item::noise;

/// Returns hosts of which the second reads what the first has published: a large path that refers to a small one.
fn published(fleet: &Fleet, keys: &str) -> (Host, Host, [Item; 2]) {
    let (first, second) = (fleet.host("first", ""), fleet.host("second", keys));
    let small = Item::new("small", "small\n", &[]);
    let large = Item::new("large", noise(4 << 20), &[&small.path]);
    let items = [small, large];
    first.add(&items);
    first.publish(&[&items[1].path]);
    (first, second, items)
}

fn is_known(host: &Host, item: &Item) {
    eventually("the path is known", || narinfo(host.http(), &item.path).status == 200);
}

#[test]
fn a_body_that_the_object_store_cuts_short_is_continued_and_never_ends_early() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (_first, second, [_, large]) = published(&fleet, "redirect_from = \"never\"\n");
    is_known(&second, &large);
    second.proxy.fail("GET", Object::Nar, Fault::CutAnswer(1 << 20), 1);
    gets(second.http(), &large.path);
}

#[test]
fn a_wrong_byte_of_the_object_store_never_makes_a_complete_body() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (_first, second, [_, large]) = published(&fleet, "redirect_from = \"never\"\n");
    is_known(&second, &large);
    let signed = signed(second.http(), &large.path);
    for at in [0, 1000, 2 << 20, (4 << 20) - 1] {
        second.proxy.fail("GET", Object::Nar, Fault::Corrupt(at), None);
        if let Ok(response) = follow(second.http(), &signed.url) {
            let is_wrong = response.status == 200 && response.complete;
            assert!(!is_wrong || is_right(&signed, &response.body), "a wrong complete body, at byte {at}");
        }
        second.proxy.heal();
    }
    gets(second.http(), &large.path);
}

#[test]
fn while_the_object_store_is_unreachable_own_paths_are_served_and_others_are_to_be_asked_again() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (_first, second, [small, _]) = published(&fleet, "unreachable = \"retry\"\n");
    let own = Item::new("own", "of the second\n", &[]);
    second.add(std::slice::from_ref(&own));
    second.proxy.fail("", None, Fault::Refuse, None);
    gets(second.http(), &own.path);
    // The index is stale after some seconds.
    eventually("it says that it does not know", || {
        let response = narinfo(second.http(), &Item::new("nowhere", "", &[]).path);
        response.status == 503 && response.header("retry-after").is_some()
    });
    assert_ne!(narinfo(second.http(), &small.path).status, 404);
    gets(second.http(), &own.path);
    second.proxy.heal();
    is_known(&second, &small);
    gets(second.http(), &small.path);
    eventually("what is nowhere is missing again", || {
        narinfo(second.http(), &Item::new("nowhere", "", &[]).path).status == 404
    });
}

#[test]
fn while_the_object_store_is_unreachable_paths_of_others_may_be_missing_if_so_configured() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (_first, second, [small, _]) = published(&fleet, "unreachable = \"miss\"\n");
    second.proxy.fail("", None, Fault::Refuse, None);
    eventually("it says that there is none", || {
        narinfo(second.http(), &Item::new("nowhere", "", &[]).path).status == 404
    });
    second.proxy.heal();
    is_known(&second, &small);
}

#[test]
fn a_path_that_a_client_was_told_of_is_not_missing_while_lists_are_stale_or_the_object_store_is_gone() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (_first, second, [small, large]) = published(&fleet, "");
    is_known(&second, &small);
    is_known(&second, &large);
    // As if the segments had never been.
    second.proxy.hide_from_lists(fleet.names("harmonia/").iter().map(|name| fleet.key(name)));
    for _ in 0..40 {
        for item in [&small, &large] {
            assert_eq!(narinfo(second.http(), &item.path).status, 200);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    second.proxy.fail("", None, Fault::Refuse, None);
    for item in [&small, &large] {
        assert_ne!(narinfo(second.http(), &item.path).status, 404);
    }
}

#[test]
fn what_is_published_while_lists_are_stale_is_found_once_they_are_not() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (first, second, [small, _]) = published(&fleet, "");
    is_known(&second, &small);
    let before = fleet.names("harmonia/");
    let late = Item::new("late", "late\n", &[]);
    first.add(std::slice::from_ref(&late));
    first.publish(&[&late.path]);
    let new = fleet.names("harmonia/").into_iter().filter(|name| !before.contains(name));
    second.proxy.hide_from_lists(new.map(|name| fleet.key(&name)));
    second.proxy.heal();
    is_known(&second, &late);
    gets(second.http(), &late.path);
}

#[test]
fn misses_cost_no_request() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (_first, second, [small, _]) = published(&fleet, "");
    is_known(&second, &small);
    second.proxy.forget();
    for number in 0..1000 {
        let missing = format!("/nix/store/{number:032}-missing");
        assert_eq!(narinfo(second.http(), &missing).status, 404);
    }
    let asked = second.proxy.count("", Object::NarInfo) + second.proxy.count("", Object::Nar);
    // Of those that the filter may let through, less than one in fifty.
    assert!(asked <= 20, "{asked} requests for 1000 misses");
}
