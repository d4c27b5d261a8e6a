//! Memory of many views: a thousand of ten thousand paths each, out of a hundred thousand.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::footprint::memory;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;
use crate::support::wire::{LAST, Wire};

/// Upper bound of the wait for all views, generous because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(600);
const PATHS: usize = 100_000;
const VIEWS: usize = 1_000;
/// Paths of a view, about.
const CLOSURE: usize = 10_000;
/// Upper bound of what all views add to the memory of a process, in bytes.
const MAX_MEMORY: u64 = 64 << 20;
/// Paths whose closures are the parts of views, in a binary tree of all paths.
const TOPS: std::ops::Range<usize> = 127..255;

fn base_name(number: usize) -> String {
    format!("{number:032}-a-name-of-usual-length-1.2.3")
}

/// Replies that each path refers to the next two of a binary tree.
fn reply(query: &Query) -> Reply {
    let path = match query {
        Query::PathInfo(path) => path,
        Query::PathFromHashPart(hash) => {
            return Wire::new().number(LAST).string(format!("/nix/store/{}", base_name(hash.parse().unwrap()))).into();
        }
        other => panic!("unexpected {other:?}"),
    };
    let number: usize = hash_part(path).parse().unwrap();
    let references = (2 * number + 1..2 * number + 3).filter(|it| *it < PATHS);
    let references: Vec<_> = references.map(|it| format!("/nix/store/{}", base_name(it))).collect();
    let deriver = format!("/nix/store/{}.drv", base_name(number + PATHS));
    let info = Wire::new().number(LAST).number(1).string(deriver).string("0".repeat(64)).strings(&references);
    info.number(0).number(120).number(0).number(0).string("").into()
}

fn closure_size(number: usize) -> usize {
    if number < PATHS { 1 + closure_size(2 * number + 1) + closure_size(2 * number + 2) } else { 0 }
}

/// Returns the roots of a view, no two of which are the same.
fn roots(view: usize) -> Vec<usize> {
    let (start, step) = (view % TOPS.len(), 2 * (view / TOPS.len()) + 1);
    let mut size = 0;
    let tops = (0..TOPS.len()).map(|nth| TOPS.start + (start + nth * step) % TOPS.len());
    let is_wanted = |top: &usize| {
        let had = size;
        size += closure_size(*top);
        had < CLOSURE
    };
    tops.take_while(is_wanted).collect()
}

#[test]
#[ignore = "takes minutes: a hundred thousand queries"]
fn a_thousand_views_of_ten_thousand_paths_add_less_than_64_mib() {
    let daemon = ScriptedDaemon::start(Script::replying(reply));
    // Path infos are not cached: they would be without views too.
    let config = daemon.config_without_cache();
    let without = Harmonia::start(&config);
    let mut views = String::new();
    for view in 0..VIEWS {
        let roots: Vec<_> = roots(view).into_iter().map(|it| format!("/nix/store/{}", base_name(it))).collect();
        writeln!(views, "[views.v{view}]\nroots = {roots:?}").unwrap();
    }
    let with = Harmonia::start(&format!("{config}[access]\nanonymous = [\"read\"]\n{views}"));
    let began = Instant::now();
    while with.log().matches(" roots, ").count() < VIEWS {
        assert!(began.elapsed() < PATIENCE, "the views are not complete");
        // There are a thousand events, of which the last one counts.
        thread::sleep(Duration::from_millis(100));
    }
    let [less, more] = [&without, &with].map(|server| memory(server.pid()));
    eprintln!("{less} bytes without views, {more} with {VIEWS}; {} queries", daemon.seen().queries.len());
    assert!(more < less + MAX_MEMORY, "{less} bytes without views, {more} with {VIEWS}");
}
