//! What hosts put into the bucket, and what they do not put again.

use std::time::Duration;

use super::host::Item;
use super::nars::{gets, signed};
use super::shared_bucket::{Fleet, eventually, narinfo, within};
use crate::support::engine::Kind;
use crate::support::s3_request::Kind as Object;
use crate::support::store_item::noise;

/// Time within which a host knows what another has published.
const SOON: Duration = Duration::from_secs(5);

fn paths(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.path.as_str()).collect()
}

#[test]
fn the_second_of_two_hosts_with_the_same_closure_sends_no_byte_of_a_nar() {
    for kind in [Kind::Swift, Kind::Rclone, Kind::Moto] {
        let Some(fleet) = Fleet::shared(kind) else { continue };
        let (first, second) = (fleet.host("first", ""), fleet.host("second", ""));
        let mut items = Item::closure("same", 20, 10_000);
        items.insert(0, Item::new("same-large", noise(20 << 20), &[]));
        first.add(&items);
        second.add(&items);
        let top = &items.last().unwrap().path;
        first.publish(&paths(&items));
        let sent = first.proxy.nar_bytes_sent();
        assert!(sent > 20 << 20, "{kind:?}: {sent}");
        second.publish(&[top, &items[0].path]);
        assert_eq!(second.proxy.nar_bytes_sent(), 0, "{kind:?}");
        assert_eq!(second.proxy.count("PUT", Object::NarInfo), 0, "{kind:?}");
    }
}

#[test]
fn two_hosts_that_publish_the_same_closure_at_once_leave_one_that_is_whole() {
    for kind in [Kind::Swift, Kind::Rclone] {
        let Some(fleet) = Fleet::shared(kind) else { continue };
        let hosts = ["first", "second"].map(|name| fleet.host(name, ""));
        let items = Item::closure("raced", 40, 20_000);
        let all = paths(&items);
        for host in &hosts {
            host.add(&items);
        }
        std::thread::scope(|scope| {
            for host in &hosts {
                scope.spawn(|| host.publish(&all));
            }
        });
        let reader = fleet.gateway("reader", "");
        for path in all {
            within(SOON, "the path is known", || narinfo(reader.http(), path).status == 200);
            gets(reader.http(), path);
        }
    }
}

#[test]
fn a_path_that_one_host_has_published_is_found_by_another_within_five_seconds() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (publisher, other) = (fleet.host("publisher", ""), fleet.host("other", ""));
    for round in 0..5 {
        let item = Item::new(&format!("found-{round}"), "to be found\n", &[]);
        publisher.add(std::slice::from_ref(&item));
        // Before, it is nowhere, and that is known.
        assert_eq!(narinfo(other.http(), &item.path).status, 404);
        publisher.publish(&[&item.path]);
        let took = within(SOON, "the path is found", || narinfo(other.http(), &item.path).status == 200);
        eprintln!("found after {took:?}");
        gets(other.http(), &item.path);
    }
}

#[test]
fn what_is_built_while_nobody_asks_is_published_without_a_hook() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let host = fleet.host("builder", "publish = \"all\"\n");
    let (early, late) = (Item::closure("early", 5, 1000), Item::closure("late", 5, 1000));
    for items in [early, late] {
        host.add(&items);
        eventually("the closure is in the bucket", || items.iter().all(|item| fleet.has(&item.path)));
    }
}

#[test]
fn what_was_served_is_published_with_its_closure_and_nothing_else() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let host = fleet.host("server", "publish = \"served\"\n");
    let (served, other) = (Item::closure("served", 5, 1000), Item::closure("not-served", 5, 1000));
    host.add(&served);
    host.add(&other);
    assert_eq!(narinfo(host.http(), &served.last().unwrap().path).status, 200);
    eventually("the closure is in the bucket", || served.iter().all(|item| fleet.has(&item.path)));
    assert!(!other.iter().any(|item| fleet.has(&item.path)));
}

#[test]
fn of_a_path_that_two_hosts_have_built_with_different_contents_the_first_counts_everywhere() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (first, second) = (fleet.host("first", ""), fleet.host("second", ""));
    let (one, two) = (Item::new("differs", "of the first\n", &[]), Item::new("differs", "of the second\n", &[]));
    first.add(std::slice::from_ref(&one));
    second.add(std::slice::from_ref(&two));
    first.publish(&[&one.path]);
    let _ = second.command(&["bucket", "publish", &two.path]);
    let winner = signed(first.http(), &one.path).nar_hash;
    within(SOON, "the second host serves what the first has published", || {
        signed(second.http(), &one.path).nar_hash == winner
    });
    for host in [&first, &second] {
        gets(host.http(), &one.path);
    }
    let metrics = second.http().get("/metrics").text().to_owned();
    let counted = metrics.lines().find(|line| line.contains("irreproducible") && !line.starts_with('#'));
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{counted:?}");
}

#[test]
fn a_bucket_that_was_wiped_is_published_again_from_the_stores_by_hosts_that_start() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let mut hosts = ["owner", "other"].map(|name| fleet.host(name, "publish = \"all\"\n"));
    let closures = ["wiped-one", "wiped-two"].map(|name| Item::closure(name, 10, 5000));
    for (host, items) in hosts.iter().zip(&closures) {
        host.add(items);
    }
    let is_whole = || closures.iter().flatten().all(|item| fleet.has(&item.path));
    eventually("all is published", is_whole);
    hosts.iter_mut().for_each(super::host::Host::kill);
    fleet.wipe();
    assert!(!is_whole());
    hosts.iter_mut().for_each(super::host::Host::restart);
    eventually("all is published again", is_whole);
    let reader = fleet.gateway("reader", "");
    for item in closures.iter().flatten() {
        within(SOON, "the path is known", || narinfo(reader.http(), &item.path).status == 200);
        gets(reader.http(), &item.path);
    }
}

#[test]
fn a_bucket_that_was_wiped_is_published_again_by_hosts_that_run() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let hosts = ["all", "served", "none"].map(|publish| {
        (publish, fleet.host(publish, &format!("publish = \"{publish}\"\n")), Item::closure(publish, 10, 5000))
    });
    let publish = |again: bool| {
        for (publish, host, items) in &hosts {
            let root = &items.last().unwrap().path;
            if !again {
                host.add(items);
            }
            match *publish {
                "all" => {}
                "served" => assert_eq!(narinfo(host.http(), root).status, 200),
                _ => host.publish(&[root]),
            }
        }
    };
    let is_whole = || hosts.iter().flat_map(|(_, _, items)| items).all(|item| fleet.has(&item.path));
    publish(false);
    eventually("all is published", is_whole);
    fleet.wipe();
    // Those that are told before they can know by themselves, too.
    publish(true);
    let by_command = &hosts[2].2;
    assert!(by_command.iter().all(|item| fleet.has(&item.path)), "a command says that it is published");
    eventually("all is published again", || {
        assert_eq!(narinfo(hosts[1].1.http(), &hosts[1].2.last().unwrap().path).status, 200);
        is_whole()
    });
    let reader = fleet.gateway("reader", "");
    for item in hosts.iter().flat_map(|(_, _, items)| items) {
        within(SOON, "the path is known", || narinfo(reader.http(), &item.path).status == 200);
        gets(reader.http(), &item.path);
    }
}
