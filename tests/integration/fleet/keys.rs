//! A fleet whose signing key is replaced: the bucket keeps signatures of the old one.

use super::host::{Host, Item};
use super::nars::signed_by;
use super::shared_bucket::{Fleet, eventually, narinfo};
use crate::support::engine::Kind;
use crate::support::exit::{DATA, OK};
use crate::support::keys;
use crate::support::store_item::hash_part;

/// Restarts a host with another configuration.
fn change(host: &mut Host, change: impl FnOnce(String) -> String) {
    host.kill();
    host.configure(change);
    host.restart();
}

#[test]
fn paths_of_a_key_that_was_replaced_are_served_where_it_is_trusted_and_signed_anew_by_who_has_them() {
    let (old, new) = (&keys::OURS, &keys::FOREIGN);
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let mut hosts = [fleet.host("owner", "publish = \"all\"\n"), fleet.host("reader", "")];
    let items = Item::closure("replaced-key", 4, 2000);
    let top = &items.last().unwrap().path;
    hosts[0].add(&items);
    let is_whole = || items.iter().all(|item| fleet.has(&item.path));
    eventually("it is published", is_whole);
    let [old_secret, new_secret] = [old, new].map(|key| key.secret.display().to_string());
    for host in &mut hosts {
        change(host, |text| text.replace(&old_secret, &new_secret));
    }
    let [owner, reader] = &mut hosts;
    // Who has the path signs it anew; others do not give out what no trusted key has signed.
    signed_by(new, top, narinfo(owner.http(), top).text());
    eventually("it is not trusted", || narinfo(reader.http(), top).status == 404);
    let verified = reader.command(&["bucket", "verify"]);
    let faults = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(DATA), "{faults}");
    assert_eq!(faults.matches("no trusted key has signed it").count(), items.len(), "{faults}");

    let trusted = format!("trusted_public_keys = [\"{}\"]\n", old.public);
    change(reader, |text| text + &trusted);
    eventually("it is trusted", || narinfo(reader.http(), top).status == 200);
    signed_by(old, top, narinfo(reader.http(), top).text());
    assert_eq!(reader.command(&["bucket", "verify"]).status.code(), Some(OK));

    // Replaced by whoever has them, without a restart.
    owner.publish(&items.iter().map(|item| item.path.as_str()).collect::<Vec<_>>());
    for item in &items {
        let object = fleet.object(&format!("{}.narinfo", hash_part(&item.path)));
        signed_by(new, &item.path, object.text());
    }
    change(reader, |text| text.replace(&trusted, ""));
    eventually("it is trusted", || narinfo(reader.http(), top).status == 200);
    signed_by(new, top, narinfo(reader.http(), top).text());
}
