//! Requests for paths that no host has, which are most.

use std::fs;

use super::other_host::{OtherHost, item, until};
use crate::support::metrics;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// A daemon that has these paths.
fn script(items: Vec<StoreItem>) -> Script {
    Script::replying(move |query| {
        let found = StoreItem::reply_among(&items, query);
        found.unwrap_or_else(|| match query {
            Query::AllPaths => {
                Wire::new().number(LAST).strings(&items.iter().map(|it| &it.path).collect::<Vec<_>>()).into()
            }
            Query::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
            _ => Wire::new().number(LAST).number(0).into(),
        })
    })
}

#[test]
fn a_miss_is_no_query_and_no_request_while_the_store_does_not_change() {
    let (other, own, later) = (OtherHost::new(), item(1, &[]), item(2, &[]));
    other.publish(&[&item(8, &[])]);
    let store = scratch::fresh_dir();
    let add = |item: &StoreItem| fs::write(store.join(&item.path["/nix/store/".len()..]), "").unwrap();
    add(&own);
    let daemon = ScriptedDaemon::start(script(vec![own.clone()]));
    let harmonia = Harmonia::start(&format!("{}real_nix_store = {store:?}\n{}", daemon.config(), other.table()));
    let http = harmonia.http();
    let queries = || daemon.seen().queries.iter().filter(|it| matches!(it, Query::PathFromHashPart(_))).count();
    // The names are read when the directory has not changed for a second.
    until(|| {
        let before = queries();
        assert_eq!(http.get(&item(100, &[]).narinfo_url()).status, 404);
        queries() == before
    });
    metrics::await_that(http, "harmonia_bucket_requests_total{kind=\"list\",result=\"ok\"}", |lists| lists > Some(0.0));
    let gets = || metrics::value(&metrics::metrics(http), "harmonia_bucket_requests_total{kind=\"get\",result=\"ok\"}");
    let before = (queries(), gets());
    for number in 200..300 {
        assert_eq!(http.get(&item(number, &[]).narinfo_url()).status, 404);
    }
    assert_eq!((queries(), gets()), before);
    assert_eq!(http.get(&own.narinfo_url()).status, 200);
    // A name appears before its path becomes valid.
    add(&later);
    assert_eq!(http.get(&later.narinfo_url()).status, 404);
    daemon.play(script(vec![own, later.clone()]));
    assert_eq!(http.get(&later.narinfo_url()).status, 200);
}

#[test]
fn a_directory_that_is_not_that_of_nix_daemon_denies_nothing() {
    let (other, own) = (OtherHost::new(), item(1, &[]));
    let store = scratch::fresh_dir();
    let daemon = ScriptedDaemon::start(script(vec![own.clone()]));
    let harmonia = Harmonia::start(&format!("{}real_nix_store = {store:?}\n{}", daemon.config(), other.table()));
    let http = harmonia.http();
    until(|| {
        assert_eq!(http.get(&item(100, &[]).narinfo_url()).status, 404);
        harmonia.log().contains("each miss is a query of nix-daemon")
    });
    assert_eq!(http.get(&own.narinfo_url()).status, 200);
}
