//! Quarantine: paths whose NAR fails verification are 404 until it passes, and no others are.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::metrics::{metrics, value as series};
use crate::support::nar_cache::with_nar_cache;
use crate::support::narinfo::value;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const HELD_BACK: &str = "harmonia_quarantined_paths";

const SIZE: usize = 300_000;

fn listing_url(item: &StoreItem) -> String {
    format!("/{}.ls", item.hash_part())
}

fn is_held_back(harmonia: &Harmonia, item: &StoreItem, case: &str) {
    let http = harmonia.http();
    for url in [item.narinfo_url(), listing_url(item), item.nar_url(), format!("/serve/{}/", item.hash_part())] {
        assert_eq!(http.get(&url).status, 404, "{url}: {case}");
    }
    assert_eq!(series(&metrics(http), HELD_BACK), Some(1.0), "{case}");
    let line = harmonia.wait_for_log("(answering 404)");
    assert!(line.contains("ERROR") && line.contains(item.hash_part()), "{line}");
    assert_eq!(harmonia.log().matches("(answering 404)").count(), 1, "{}", harmonia.log());
}

/// Path info of a file, and the NAR that nix-daemon dumps in its place.
fn wrong_contents() -> Vec<(&'static str, StoreItem, Vec<u8>)> {
    let item = StoreItem::file_of(SIZE);
    let (mut corrupt, mut without_end, mut shorter) = (item.nar.clone(), item.nar.clone(), item.clone());
    corrupt[SIZE / 2] ^= 1;
    let end = without_end.len() - 8;
    without_end[end] = b'(';
    shorter.nar_size += 8;
    let longer = StoreItem::file_of(SIZE + 8).nar;
    vec![
        ("corrupt", item.clone(), corrupt),
        ("longer", item.clone(), longer),
        ("shorter", shorter.clone(), shorter.nar),
        ("no structure", item, without_end),
    ]
}

#[test]
fn a_path_whose_nar_fails_verification_is_quarantined_however_it_was_read() {
    for (case, item, nar) in wrong_contents() {
        let reply = move || Reply::from(Wire::new().number(LAST).raw(&nar));
        let daemon = ScriptedDaemon::start(item.script_with_nar(reply));
        for (url, headers) in [
            (item.nar_url(), &[][..]),
            (item.nar_url(), &[("Range", "bytes=1-")]),
            (item.nar_url(), &[("Accept-Encoding", "zstd")]),
            (listing_url(&item), &[]),
        ] {
            let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), nar_cache_on_demand()));
            assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200, "{case}");
            let _ = harmonia.http().get_failing(&url, headers);
            is_held_back(&harmonia, &item, case);
        }
    }
}

#[test]
fn a_path_whose_nar_fails_verification_in_a_fill_is_quarantined() {
    let (case, item, nar) = wrong_contents().remove(0);
    let daemon = ScriptedDaemon::start(item.script_with_nar(move || Wire::new().number(LAST).raw(&nar).into()));
    // Ahead it would be found out before anybody asks.
    let config = format!("{}nar_cache.precompress = \"off\"\n", daemon.config());
    let harmonia = Harmonia::start(&with_nar_cache(&scratch::fresh_dir().join("nars"), &config));
    let narinfo = harmonia.http().get(&item.narinfo_url());
    let url = format!("/{}", value(narinfo.text(), "URL"));
    assert_eq!(value(narinfo.text(), "Compression"), "zstd");
    let body = harmonia.http().get_failing(&url, &[]);
    assert!(body.is_empty() || zstd::stream::decode_all(&body[..]).is_err());
    is_held_back(&harmonia, &item, case);
}

#[test]
fn a_path_is_not_quarantined_because_the_daemon_fails() {
    let item = StoreItem::file_of(SIZE);
    let half = item.nar[..SIZE / 2].to_vec();
    let failures = [
        ("cut", Wire::new().number(LAST).raw(&half)),
        ("nothing", Wire::new()),
        ("an error", Wire::new().error("cannot open it")),
        ("an error in its place", Wire::new().number(LAST).error("cannot open it")),
    ];
    for (case, failure) in failures {
        let reply = move || Reply::then_disconnect(failure.clone().done());
        let daemon = ScriptedDaemon::start(item.script_with_nar(reply));
        let harmonia = Harmonia::start(&daemon.config());
        let http = harmonia.http();
        let _ = http.get_failing(&item.nar_url(), &[]);
        assert_eq!(series(&metrics(http), HELD_BACK), Some(0.0), "{case}");
        assert_eq!(http.get(&item.narinfo_url()).status, 200, "{case}");
        daemon.play(item.script());
        assert_eq!(http.get(&item.nar_url()).body, item.nar, "{case}");
    }
}

#[test]
fn a_path_with_new_path_info_is_not_quarantined() {
    let (_, item, nar) = wrong_contents().remove(0);
    let daemon = ScriptedDaemon::start(item.script_with_nar({
        let nar = nar.clone();
        move || Wire::new().number(LAST).raw(&nar).into()
    }));
    let harmonia = Harmonia::start(&format!("{}narinfo_cache.ttl = 0\n", daemon.config()));
    let http = harmonia.http();
    let _ = http.get_failing(&item.nar_url(), &[]);
    assert_eq!(http.get(&item.narinfo_url()).status, 404);
    // It was right, and the info was not.
    let other = StoreItem::with_nar(nar);
    daemon.play(other.script());
    assert_eq!(http.get(&other.narinfo_url()).status, 200);
    assert_eq!(http.get(&other.nar_url()).body, other.nar);
    assert_eq!(series(&metrics(http), HELD_BACK), Some(0.0));
}

#[test]
fn a_quarantined_path_that_is_deleted_is_a_plain_404() {
    let (_, item, nar) = wrong_contents().remove(0);
    let daemon = ScriptedDaemon::start(item.script_with_nar(move || Wire::new().number(LAST).raw(&nar).into()));
    let directory = scratch::fresh_dir();
    let place = directory.join(item.path.rsplit_once('/').unwrap().1);
    fs::write(&place, "").unwrap();
    let harmonia = Harmonia::start(&format!("{}real_nix_store = \"{}\"\n", daemon.config(), directory.display()));
    let http = harmonia.http();
    let _ = http.get_failing(&item.nar_url(), &[]);
    assert_eq!(series(&metrics(http), HELD_BACK), Some(1.0));
    daemon.play(Script::replying(|query| match query {
        Query::PathInfo(_) => Wire::new().number(LAST).number(0).into(),
        _ => Wire::new().number(LAST).string("").into(),
    }));
    fs::remove_file(place).unwrap();
    assert_eq!(http.get(&item.narinfo_url()).status, 404);
}

#[test]
fn a_path_that_failed_verification_once_is_released_at_once() {
    let item = StoreItem::file_of(SIZE);
    let (right, mut wrong) = (item.nar.clone(), item.nar.clone());
    wrong[SIZE / 2] ^= 1;
    let was_asked = AtomicBool::new(false);
    let daemon = ScriptedDaemon::start(item.script_with_nar(move || {
        let nar = if was_asked.swap(true, Ordering::Relaxed) { &right } else { &wrong };
        Wire::new().number(LAST).raw(nar).into()
    }));
    let harmonia = Harmonia::start(&daemon.config());
    let _ = harmonia.http().get_failing(&item.nar_url(), &[]);
    harmonia.wait_for_log("from quarantine: its NAR was verified");
    assert_eq!(harmonia.http().get(&item.nar_url()).body, item.nar);
}

/// Reply of a nix-daemon that cannot read the path now.
#[test]
fn a_path_that_the_daemon_fails_to_dump_for_another_reason_is_not_quarantined() {
    let item = StoreItem::file(b"unreadable");
    let message = format!("opening file '{}': Too many open files", item.path);
    let answer = move || Reply::then_disconnect(Wire::new().number(LAST).error(&message).done());
    let daemon = ScriptedDaemon::start(item.script_with_nar(answer));
    let harmonia = Harmonia::start(&daemon.config());
    for _ in 0..3 {
        assert_eq!(harmonia.http().get(&item.nar_url()).status, 502);
        assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 200);
    }
}
