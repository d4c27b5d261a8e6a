//! Publishing while the object store, its network, the clock, the access key or the disk fail.

use std::time::Duration;

use super::crashes::all_is_there;
use super::host::Item;
use super::nars::gets;
use super::shared_bucket::{Fleet, eventually, narinfo};
use crate::support::clock;
use crate::support::disk::Disk;
use crate::support::engine::Kind;
use crate::support::s3_proxy::Fault;
use crate::support::s3_request::Kind as Object;
use crate::support::store_item::noise;

const ALL: &str = "publish = \"all\"\n";

#[test]
fn a_server_that_asks_for_fewer_requests_gets_fewer_and_then_everything() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let host = fleet.host("slowed", ALL);
    let items = Item::closure("slowed", 20, 5000);
    host.proxy.fail("PUT", None, Fault::SlowDown, None);
    host.add(&items);
    host.proxy.wait_until("a put", |requests| requests.iter().any(|request| request.status == 503));
    host.proxy.forget();
    std::thread::sleep(Duration::from_secs(5));
    let asked = host.proxy.count("PUT", None);
    assert!(asked <= 80, "{asked} puts in five seconds");
    host.proxy.heal();
    all_is_there(&fleet, &host, &items);
}

#[test]
fn puts_that_break_off_and_answers_that_are_lost_leave_nothing_half() {
    for kind in [Kind::Swift, Kind::Rclone, Kind::Moto] {
        let Some(fleet) = Fleet::shared(kind) else { continue };
        let host = fleet.host("broken-off", ALL);
        let mut items = Item::closure("broken-off", 8, 5000);
        items.insert(0, Item::new("broken-off-large", noise(12 << 20), &[]));
        for fault in [Fault::CutRequest(100), Fault::LoseAnswer, Fault::Refuse, Fault::CutRequest(0)] {
            host.proxy.fail("PUT", Object::Nar, fault, 2);
            host.proxy.fail("PUT", Object::NarInfo, fault, 1);
            host.proxy.fail("POST", Object::Nar, fault, 1);
            host.proxy.fail("PUT", Object::Segment, fault, 1);
        }
        host.add(&items);
        all_is_there(&fleet, &host, &items);
    }
}

#[test]
fn a_nar_of_which_the_server_kept_only_a_part_never_makes_a_complete_body() {
    // It takes any body for right.
    let Some(fleet) = Fleet::shared(Kind::Moto) else { return };
    let host = fleet.host("half", "");
    let other = fleet.host("other", "redirect_from = \"never\"\n");
    let item = Item::new("half", noise(200_000), &[]);
    host.add(std::slice::from_ref(&item));
    host.proxy.fail("PUT", Object::Nar, Fault::StoreShort(50_000), 1);
    let _ = host.command(&["bucket", "publish", &item.path]);
    // It is served by who has it, and nobody else is told that half of it is all.
    gets(host.http(), &item.path);
    std::thread::sleep(Duration::from_secs(5));
    let response = narinfo(other.http(), &item.path);
    if response.status == 200 {
        let signed = super::nars::signed(other.http(), &item.path);
        let nar = super::nars::follow(other.http(), &signed.url);
        let is_complete = nar.is_ok_and(|nar| nar.status == 200 && nar.complete);
        assert!(!is_complete, "half a NAR is a complete body");
    }
}

#[test]
fn a_host_whose_clock_is_twenty_minutes_off_serves_its_own_and_publishes_once_that_is_corrected() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let mut host = fleet.host("late", ALL);
    host.kill();
    let mut program = host.program();
    clock::set_ahead(&mut program, -20 * 60);
    host.restart_as(crate::support::server::Harmonia::launch(program));
    let items = Item::closure("late", 6, 3000);
    host.add(&items);
    host.server.wait_for_log("RequestTimeTooSkewed");
    host.server.wait_for_log("set the clock of this machine");
    for item in &items {
        gets(host.http(), &item.path);
    }
    assert!(!items.iter().any(|item| fleet.has(&item.path)));
    assert_ne!(narinfo(host.http(), &Item::new("nowhere", "", &[]).path).status, 404);
    host.kill();
    host.restart();
    all_is_there(&fleet, &host, &items);
}

#[test]
fn an_access_key_is_rotated_without_a_restart_and_nothing_is_missing_meanwhile() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (host, other) = (fleet.host("rotated", ALL), fleet.host("other", ""));
    let (before, after) = (Item::new("before", "before\n", &[]), Item::new("after", "after\n", &[]));
    host.add(std::slice::from_ref(&before));
    eventually("it is published", || fleet.has(&before.path));
    eventually("it is known", || narinfo(other.http(), &before.path).status == 200);
    let valid = fleet.engine().secret_key().to_owned();
    fleet.write_secret_key("of-tomorrow");
    // The file is read again after some seconds.
    for host in [&host, &other] {
        host.server.wait_for_log("check the access key");
    }
    host.add(std::slice::from_ref(&after));
    assert_eq!(narinfo(other.http(), &before.path).status, 200);
    assert!(!fleet.has(&after.path));
    eventually("it is to be asked again", || narinfo(other.http(), &after.path).status == 503);
    fleet.write_secret_key(&valid);
    eventually("it is published", || fleet.has(&after.path));
    eventually("it is known", || narinfo(other.http(), &after.path).status == 200);
    gets(other.http(), &after.path);
}

#[test]
fn a_host_whose_state_directory_is_full_serves_and_publishes_all_once_there_is_room() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let Some(disk) = Disk::in_memory(1 << 20) else { return };
    let mut host = fleet.host("full", ALL);
    host.kill();
    host.configure(|text| text.replace(&host.state.display().to_string(), &disk.path().display().to_string()));
    let filler = disk.path().join("filler");
    fill(&filler);
    host.restart();
    let items = Item::closure("full", 30, 2000);
    host.add(&items);
    for item in &items {
        gets(host.http(), &item.path);
    }
    std::fs::remove_file(&filler).unwrap();
    all_is_there(&fleet, &host, &items);
    drop(host);
}

/// Writes a file until nothing more fits.
fn fill(file: &std::path::Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(file).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    while file.write_all(&[1]).is_ok() {}
}
