//! Prefetch of the path infos of references: how many levels, on which connections, and how the results are used.

use crate::support::metrics::{await_value, metrics, value};
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const AHEAD: &str = "harmonia_narinfo_cache_prefetched_total";
const SIGNED: &str = "harmonia_narinfo_cache_signed_total";

/// Returns items each of which refers to the next and to itself.
fn chain(length: usize) -> Vec<StoreItem> {
    let path = |n: usize| format!("/nix/store/{n:032}-link");
    let link = |n: usize| {
        let mut item = StoreItem::file(n.to_string().as_bytes());
        item.path = path(n);
        item.references = vec![path(n)];
        item.references.extend((n + 1 < length).then(|| path(n + 1)));
        item
    };
    (0..length).map(link).collect()
}

/// Returns the reply of a daemon that has all of these items.
fn answer(items: &[StoreItem], query: &Query) -> Reply {
    let about = match query {
        Query::PathFromHashPart(about) | Query::PathInfo(about) | Query::Nar(about) => about.as_str(),
        Query::AllPaths | Query::Realisation(_) | Query::BuildTrace(..) => "",
    };
    let item = items.iter().find(|item| item.path.contains(about));
    item.unwrap_or(&items[0]).reply(query)
}

fn script(items: &[StoreItem]) -> Script {
    let items = items.to_vec();
    Script::replying(move |query| answer(&items, query))
}

#[test]
fn a_closure_is_prefetched_when_its_top_is_served() {
    let items = chain(5);
    let daemon = ScriptedDaemon::start(script(&items));
    let harmonia = Harmonia::start(&daemon.config());
    let http = harmonia.http();
    assert_eq!(http.get(&items[0].narinfo_url()).status, 200);
    await_value(http, AHEAD, 4.0);
    let expected: Vec<_> = [Query::PathFromHashPart(items[0].hash_part().to_owned())]
        .into_iter()
        .chain(items.iter().map(|item| Query::PathInfo(item.path.clone())))
        .collect();
    assert_eq!(daemon.seen().queries, expected);
    for item in &items {
        assert_eq!(http.get(&item.narinfo_url()).status, 200);
    }
    assert_eq!(daemon.seen().queries, expected, "a prefetched path info is queried again");
}

#[test]
fn prefetched_paths_are_signed_in_advance_and_once_for_every_form_of_the_narinfo() {
    let items = chain(5);
    let daemon = ScriptedDaemon::start(script(&items));
    let harmonia = Harmonia::start(&format!("{}enable_compression = true\n", daemon.config()));
    let http = harmonia.http();
    assert_eq!(http.get(&items[0].narinfo_url()).status, 200);
    await_value(http, SIGNED, 5.0);
    for item in &items {
        for (suffix, agent) in [("", "Nix/2.3"), ("", "Nix/2.26"), ("?json", "curl")] {
            let answer = http.get_with(&format!("{}{suffix}", item.narinfo_url()), &[("User-Agent", agent)]);
            assert_eq!(answer.status, 200);
        }
    }
    assert_eq!(value(&metrics(http), SIGNED), Some(5.0), "a prefetched narinfo is signed again");
}

#[test]
fn a_closure_is_prefetched_when_a_nar_of_it_is_served_first() {
    let items = chain(5);
    let daemon = ScriptedDaemon::start(script(&items));
    let harmonia = Harmonia::start(&daemon.config());
    let http = harmonia.http();
    assert_eq!(http.get(&items[0].nar_url()).status, 200);
    await_value(http, AHEAD, 4.0);
    for item in &items {
        assert_eq!(http.get(&item.nar_url()).status, 200);
    }
    let is_question = |query: &&Query| !matches!(query, Query::Nar(_));
    assert_eq!(daemon.seen().queries.iter().filter(is_question).count(), 6);
}

#[test]
fn prefetching_leaves_one_connection_to_clients() {
    let items = chain(3);
    let daemon = ScriptedDaemon::start(script(&items));
    let harmonia = Harmonia::start(&format!("{}max_metadata_connections = 1\n", daemon.config()));
    let http = harmonia.http();
    for item in &items {
        assert_eq!(http.get(&item.narinfo_url()).status, 200);
    }
    assert_eq!(daemon.seen().queries.len(), 6);
    assert_eq!(value(&metrics(http), AHEAD), Some(0.0));
}

#[test]
fn paths_that_would_not_be_used_are_not_prefetched() {
    let items = chain(3);
    for config in ["narinfo_cache.ttl = 0", "narinfo_cache.max_size = 0"] {
        let daemon = ScriptedDaemon::start(script(&items));
        let harmonia = Harmonia::start(&format!("{}{config}\n", daemon.config()));
        let queries = |item: &StoreItem| {
            [Query::PathFromHashPart(item.hash_part().to_owned()), Query::PathInfo(item.path.clone())]
        };
        for item in &items {
            assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200);
        }
        assert_eq!(daemon.seen().queries, items.iter().flat_map(queries).collect::<Vec<_>>(), "{config}");
    }
}

#[test]
fn a_failed_prefetch_fails_no_request() {
    let items = chain(3);
    let failures: [fn() -> Reply; 3] = [
        || Reply::then_disconnect([]),
        || Wire::new().error("busy").into(),
        || Wire::new().number(LAST).number(0).into(),
    ];
    for failure in failures {
        let (all, second) = (items.clone(), items[1].path.clone());
        let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
            Query::PathInfo(path) if *path == second => failure(),
            _ => answer(&all, query),
        }));
        let harmonia = Harmonia::start(&daemon.config());
        let http = harmonia.http();
        assert_eq!(http.get(&items[0].narinfo_url()).status, 200);
        daemon.wait_until(|seen| seen.queries.contains(&Query::PathInfo(items[1].path.clone())));
        daemon.play(script(&items));
        // Whoever comes while the query is still under way is told what came of it.
        let answered = |result| {
            value(
                &metrics(http),
                &format!("harmonia_daemon_operations_total{{op=\"QueryPathInfo\",result=\"{result}\"}}"),
            )
        };
        let is_answered = || answered("ok").unwrap_or_default() + answered("error").unwrap_or_default() >= 2.0;
        assert!((0..3000).any(|_| is_answered()), "{}", metrics(http));
        for item in &items {
            assert_eq!(http.get(&item.narinfo_url()).status, 200);
        }
    }
}
