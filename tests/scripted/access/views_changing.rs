//! Views whose roots change, and a nix-daemon that is away meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use super::views::{Machine, assert_as_not_there, item, items, reply};
use crate::support::scripted_daemon::{Reply, Script};

/// Upper bound of the time until a removed root disappears, generous because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_new_root_shows_at_the_first_request_with_its_closure() {
    let machine = Machine::new();
    assert_eq!(machine.status(4), 404);
    machine.add("public", 3);
    assert_eq!(machine.status(4), 200);
    assert_eq!(machine.status(3), 200);
}

#[test]
fn a_removed_root_disappears_from_every_cache() {
    let machine = Machine::new();
    machine.add("public", 3);
    let compressed = |range: &[(&str, &str)]| {
        let mut headers = vec![("Accept-Encoding", "zstd")];
        headers.extend_from_slice(range);
        machine.harmonia.http().get_with(&item(3).nar_url(), &headers).status
    };
    // Now its path info, its signatures and its compressed NAR are cached.
    assert_eq!((machine.status(3), compressed(&[])), (200, 200));
    fs::remove_file(machine.roots.join("public/3")).unwrap();
    let began = Instant::now();
    while machine.status(3) == 200 {
        assert!(began.elapsed() < PATIENCE, "it is still shown");
        // No event tells when a scan is too old to be believed.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_as_not_there(&machine, 3, 77);
    assert_eq!((machine.status(1), compressed(&[("Range", "bytes=1-")])), (200, 404));
}

#[test]
fn without_nix_daemon_a_miss_is_no_404_if_a_root_is_new() {
    let machine = Machine::new();
    assert_eq!((machine.status(1), machine.status(2)), (200, 200));
    machine.daemon.play(Script::replying(|_| Reply::then_disconnect([])));
    // Nothing new: everything is known.
    assert_eq!((machine.status(1), machine.status(5)), (200, 404));
    machine.add("public", 3);
    assert_eq!((machine.status(1), machine.status(5)), (200, 502));
    machine.daemon.play(Script::replying(|query| reply(&items(), query)));
    assert_eq!((machine.status(4), machine.status(5)), (200, 404));
}
