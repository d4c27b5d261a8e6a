//! Uploads in the audit log that end before there is a response.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::accept::{absent, narinfo, target};
use super::{Cache, head};
use crate::support::log_file::events;
use crate::support::scripted_daemon::Script;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

#[test]
fn a_client_that_leaves_while_nix_daemon_adds_its_path_is_recorded() {
    let cache = Cache::start("");
    let item = StoreItem::file(b"left alone");
    let (entered, has_entered) = channel();
    let (leave, may_leave) = channel();
    let may_leave = Mutex::new(may_leave);
    cache.daemon.play(Script::replying(absent).adding(move |_| {
        entered.send(()).unwrap();
        let _ = may_leave.lock().unwrap().recv();
        Wire::new().number(LAST).into()
    }));
    let target = target(&item.nar);
    assert_eq!(cache.put(&target, &item.nar).status, 200);
    let (url, text) = (item.narinfo_url(), narinfo(&item, &target, "none"));
    let mut connection = cache.connect();
    connection.send(head(&url, &format!("Content-Length: {}\r\n", text.len())).as_bytes()).unwrap();
    connection.send(text.as_bytes()).unwrap();
    has_entered.recv().unwrap();
    drop(connection);
    let [_, uploaded, left] = &events(&cache.audit_log, 3)[..] else { panic!("not three events") };
    assert_eq!(uploaded["event"], "push");
    assert_eq!((&left["event"], &left["status"]), (&"push_refused".into(), &499.into()));
    assert_eq!((&left["url"], &left["principal"]), (&url.into(), &"anonymous".into()));
    assert_eq!(left["reason"], "the client disconnected before the response");
    assert!(!left["request_id"].as_str().unwrap().is_empty());
    leave.send(()).unwrap();
}

#[test]
fn an_upload_that_breaks_off_is_recorded() {
    let cache = Cache::start("");
    let item = StoreItem::file(b"half of it");
    let mut connection = cache.connect();
    connection.send(head(&target(&item.nar), "Content-Length: 1000000\r\n").as_bytes()).unwrap();
    connection.send(&item.nar).unwrap();
    drop(connection);
    let [_, broken] = &events(&cache.audit_log, 2)[..] else { panic!("not two events") };
    assert_eq!((&broken["event"], &broken["url"]), (&"push_refused".into(), &target(&item.nar).into()));
}
