//! What counts as published: builds that differ, keys that were rotated, objects that cannot be put, paths that CI waits for.

use std::fs;

use super::host::{Host, Item};
use super::nars::{gets, signed, signed_by};
use super::shared_bucket::{Fleet, eventually, narinfo};
use crate::nix::client::{Client, nar_hashes};
use crate::nix::release::Release;
use crate::support::engine::Kind;
use crate::support::keys;
use crate::support::s3_proxy::Fault;
use crate::support::s3_request::Kind as Object;
use crate::support::store_item::hash_part;

const ALL: &str = "publish = \"all\"\n";

fn is_known(host: &Host, items: &[Item]) {
    for item in items {
        eventually("the path is known", || narinfo(host.http(), &item.path).status == 200);
        gets(host.http(), &item.path);
    }
}

/// Returns the answer to `/ready` for a path.
fn ready(host: &Host, path: &str) -> u16 {
    host.http().get(&format!("/ready?path={}", hash_part(path))).status
}

fn status(host: &Host) -> String {
    let output = host.command(&["bucket", "status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Builds a path whose contents differ each time, and one that refers to it. Returns their paths.
fn build(host: &Host) -> [String; 2] {
    let differs = "derivation { name = \"differs\"; system = builtins.currentSystem; builder = \"/bin/bash-static\"; args = \
                   [ \"-c\" \"echo $RANDOM $RANDOM $RANDOM $RANDOM $EPOCHREALTIME > $out\" ]; }";
    let uses = format!(
        "let differs = {differs}; in derivation {{ name = \"uses\"; system = builtins.currentSystem; builder = \
         \"/bin/bash-static\"; args = [ \"-c\" \"echo ${{differs}} > $out\" ]; }}"
    );
    let build = |expression: &str| {
        host.daemon().run(&["nix-build", "--store", "daemon", "--no-out-link", "--expr", expression]).text()
    };
    [build(differs), build(&uses)]
}

#[test]
fn builds_of_a_path_that_differ_are_one_path_to_every_client_also_after_a_restart() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (first, mut second) = (fleet.host("first", ALL), fleet.host("second", ALL));
    let built = build(&first);
    eventually("it is published", || built.iter().all(|path| fleet.has(path)));
    assert_eq!(build(&second), built);
    let [differs, uses] = &built;
    let contents = |host: &Host| fs::read(host.daemon().on_host(differs)).unwrap();
    assert_ne!(contents(&first), contents(&second));
    let winner = signed(first.http(), differs);
    let is_winner = |host: &Host| signed(host.http(), differs).nar_hash == winner.nar_hash;
    eventually("the second host serves the build of the first", || is_winner(&second));
    assert!(status(&second).contains(hash_part(differs)), "{}", status(&second));
    assert!(!status(&first).contains(hash_part(differs)), "{}", status(&first));
    let hashes = nar_hashes(&[differs, uses]);
    let expected = first.daemon().run(&hashes).text();
    for release in [Release::Nix2_8, Release::Nix2_34] {
        for host in [&first, &second] {
            let client = Client::new(release, host.url(), &[&keys::OURS]);
            let _ = client.copy(&[uses]).stdout();
            assert_eq!(client.nar_hashes(&[differs, uses]), expected, "{release} from {}", host.name);
        }
    }
    second.kill();
    second.restart();
    assert!(is_winner(&second), "after a restart");
    gets(second.http(), differs);
}

#[test]
fn what_only_an_old_key_has_signed_is_published_again_with_the_new_signature() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    // Of a size of which a NAR that is there is not sent again.
    let [items, own] = ["signed", "of-one-host"].map(|name| Item::closure(name, 6, 100_000));
    let (old, mut turning) =
        (fleet.host_with_key("old", &keys::FOREIGN, ""), fleet.host_with_key("turning", &keys::FOREIGN, ALL));
    old.add(&items);
    old.publish(&[&items.last().unwrap().path]);
    turning.add(&own);
    eventually("all is published", || own.iter().all(|item| fleet.has(&item.path)));
    let (new, reader) = (fleet.host("new", ""), fleet.gateway("reader", ""));
    new.add(&items);
    assert_eq!(narinfo(reader.http(), &items[0].path).status, 404, "no trusted key has signed it");
    assert_eq!(ready(&new, &items[0].path), 503);
    new.publish(&[&items.last().unwrap().path]);
    assert_eq!(new.proxy.nar_bytes_sent(), 0);
    is_known(&reader, &items);
    for item in &items {
        let text = fleet.object(&format!("{}.narinfo", hash_part(&item.path))).text().to_owned();
        assert_eq!(signed_by(&keys::OURS, &item.path, &text), signed_by(&keys::FOREIGN, &item.path, &text));
    }
    // A host that publishes all does so with its own paths when it has a new key.
    turning.kill();
    let (before, after) = (keys::FOREIGN.secret.display().to_string(), keys::OURS.secret.display().to_string());
    turning.configure(|text| text.replace(&before, &after));
    turning.restart();
    is_known(&reader, &own);
}

#[test]
fn an_object_that_cannot_be_put_does_not_hold_up_the_others_and_is_published_once_it_can_be() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let host = fleet.host("refused", ALL);
    let others = Item::closure("others", 10, 1000);
    let below = Item::new("below", "below\n", &[]);
    let refused = Item::new("refused", "refused\n", &[&below.path]);
    let above = Item::new("above", "above\n", &[&refused.path, &others[0].path]);
    host.proxy.fail_key("PUT", fleet.key(&format!("{}.narinfo", hash_part(&refused.path))), Fault::Forbid);
    let mut items = others;
    items.splice(5..5, [below]);
    host.add(&[&items[..], &[refused.clone(), above.clone()]].concat());
    eventually("the others are published", || items.iter().all(|item| fleet.has(&item.path)));
    let output = host.command(&["bucket", "publish", &above.path]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(hash_part(&refused.path)) && told.contains("403"), "{told}");
    assert!(!fleet.has(&refused.path) && !fleet.has(&above.path));
    let status = status(&host);
    for path in [&refused.path, &above.path] {
        assert!(status.contains(&format!("\"path\":\"{}\"", hash_part(path))), "{status}");
        assert_eq!(ready(&host, path), 503);
    }
    host.server.wait_for_log("403");
    // While it is put off, what is new goes on.
    let later = Item::closure("later", 4, 1000);
    host.add(&later);
    eventually("what is new is published", || later.iter().all(|item| fleet.has(&item.path)));
    // One NAR that is refused once.
    host.proxy.heal();
    host.proxy.fail("PUT", Object::Nar, Fault::Forbid, 1);
    let more = Item::closure("more", 6, 1000);
    host.add(&more);
    items.extend([refused, above]);
    items.extend(later);
    items.extend(more);
    eventually("all is published", || items.iter().all(|item| fleet.has(&item.path)));
    is_known(&host, &items);
}

#[test]
fn a_path_is_ready_once_its_closure_is_in_the_bucket_and_as_long_as_it_is() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let (host, other) = (fleet.host("ready", ""), fleet.gateway("other", ""));
    let items = Item::closure("ready", 4, 1000);
    host.add(&items);
    let top = &items.last().unwrap().path;
    assert_eq!((ready(&host, top), ready(&other, top)), (503, 503));
    // All but the last narinfos.
    host.proxy.hold_after_writes(items.len() * 2 + 3);
    let publish = |path: &str| host.command(&["bucket", "publish", path]).status.success();
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(top));
        assert!(host.proxy.wait_until_held_or(|| fleet.has(top)));
        assert_eq!((ready(&host, top), ready(&other, top)), (503, 503), "while it is published");
        host.proxy.heal();
        assert!(publishing.join().unwrap());
    });
    assert_eq!(ready(&host, top), 200);
    eventually("the other host knows", || ready(&other, top) == 200);
    assert!(items.iter().all(|item| fleet.has(&item.path)));
    // Whatever has removed it.
    fleet.wipe();
    for host in [&host, &other] {
        eventually("it is not ready any more", || ready(host, top) == 503);
    }
    assert!(publish(top));
    assert_eq!(ready(&host, top), 200);
}
