//! Listings and build logs of paths that another host has published.

use super::other_host::{OtherHost, item};
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;

#[test]
fn listings_and_logs_of_other_hosts_are_served() {
    let other = OtherHost::new();
    let deriver = format!("{:032}-item.drv", 7);
    let mut theirs = item(2, &[]);
    theirs.deriver = format!("/nix/store/{deriver}");
    other.publish(&[&theirs, &item(3, &[])]);
    let hash = theirs.hash_part();
    let listing = br#"{"root":{"size":13,"type":"regular"},"version":1}"#;
    other.put(&format!("{hash}.ls"), listing);
    other.put(&format!("{}.ls", item(3, &[]).hash_part()), b"\x28\xb5\x2f\xfd");
    other.put(&format!("{}.ls", item(4, &[]).hash_part()), listing);
    other.put(&format!("log/{deriver}"), b"building\n");
    let daemon = ScriptedDaemon::start(Script::knowing_no_path());
    let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), other.table()));
    let http = harmonia.http();
    let listed = http.get(&format!("/{hash}.ls"));
    assert_eq!((listed.status, &listed.body[..]), (200, &listing[..]));
    assert_eq!(listed.header("content-type"), Some("application/json"));
    let tag = listed.header("etag").unwrap().to_owned();
    assert_eq!(http.get_with(&format!("/{hash}.ls"), &[("If-None-Match", &tag)]).status, 304);
    // Compressed, and of a path without a narinfo.
    for number in [3, 4] {
        assert_eq!(http.get(&format!("/{}.ls", item(number, &[]).hash_part())).status, 404, "{number}");
    }
    for name in [deriver.clone(), format!("{hash}-item"), hash.to_owned()] {
        let log = http.get(&format!("/log/{name}"));
        assert_eq!((log.status, &log.body[..]), (200, &b"building\n"[..]), "{name}");
        assert_eq!(log.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(http.get(&format!("/log/{:032}-item.drv", 8)).status, 404);
}
