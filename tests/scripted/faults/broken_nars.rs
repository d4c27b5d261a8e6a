//! Wrong NARs of nix-daemon: no client ever gets a complete response.

use std::sync::Arc;

use crate::support::scripted_daemon::{Reply, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const SIZE: usize = 200_000;
const SECRET: &str = "cannot open '/nix/store/secret'";

/// Case: path info and NAR of the daemon, and the expected log line.
struct Fault {
    case: &'static str,
    item: StoreItem,
    sends: Reply,
    reason: &'static str,
}

/// Returns a NAR of a directory, truncated before its second entry.
fn half_a_directory() -> Wire {
    let entry = ["entry", "(", "name", "a", "node", "(", "type", "regular", "contents"];
    let start = ["nix-archive-1", "(", "type", "directory"].iter().chain(&entry);
    let file = start.fold(Wire::new(), Wire::string).string(vec![b'x'; SIZE / 2]);
    file.string(")").string(")")
}

fn faults() -> Vec<Fault> {
    let good = StoreItem::file_of(SIZE);
    let last = || Wire::new().number(LAST);
    let sending = |wire: Wire| Reply::from(last().raw(&wire.done()));
    let claiming = |change: fn(&mut StoreItem)| {
        let mut item = good.clone();
        change(&mut item);
        item
    };
    let half = &good.nar[..SIZE / 2];
    let fault = |case, item: &StoreItem, sends, reason| Fault { case, item: item.clone(), sends, reason };
    vec![
        fault("ends in the middle", &good, Reply::then_disconnect(last().raw(half).done()), "closed the connection"),
        fault("ends before its first byte", &good, Reply::then_disconnect(last().done()), "closed the connection"),
        fault("an error in place of it", &good, sending(Wire::new().error(SECRET)), SECRET),
        fault("an error in the middle", &good, sending(half_a_directory().error(SECRET)), SECRET),
        fault("is none", &good, sending(Wire::new().string("nix-archive-2")), "is malformed: NAR offset 0"),
        fault("is longer", &claiming(|it| it.nar_size -= 8), good.nar_reply().into(), "exceeds the NAR size"),
        fault("is much longer", &claiming(|it| it.nar_size = 128), good.nar_reply().into(), "exceeds the NAR size"),
        fault("is shorter", &claiming(|it| it.nar_size += 8), good.nar_reply().into(), "but its path info says"),
        fault("is another", &claiming(|it| it.nar_hash = "ab".repeat(32)), good.nar_reply().into(), "but its path"),
    ]
}

#[test]
fn a_nar_that_fails_verification_breaks_its_connection_and_the_server_keeps_running() {
    for Fault { case, item, sends, reason } in faults() {
        let sends = Arc::new(sends);
        let reply = move || Reply { bytes: sends.bytes.clone(), disconnect: sends.disconnect };
        let reply = Arc::new(reply);
        for headers in [&[][..], &[("Range", "bytes=1-")], &[("Accept-Encoding", "zstd")]] {
            let reply = Arc::clone(&reply);
            let daemon = ScriptedDaemon::start(item.script_with_nar(move || reply()));
            let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), nar_cache_on_demand()));
            let body = harmonia.http().get_failing(&item.nar_url(), headers);
            assert!(body.len() < item.nar.len(), "{case}: {headers:?}");
            assert!(!body.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()), "{case}: {headers:?}");
            let is_zstd = headers.iter().any(|(name, _)| *name == "Accept-Encoding");
            assert!(!is_zstd || body.is_empty() || zstd::stream::decode_all(&body[..]).is_err(), "{case}: a frame");
            let line = harmonia.wait_for_log(reason);
            assert!(line.contains(item.hash_part()), "{case}: {line}");

            let good = StoreItem::file(b"as promised");
            daemon.play(good.script());
            assert_eq!(harmonia.http().get(&good.nar_url()).body, good.nar, "after: {case}");
        }
    }
}

/// A small NAR arrives in one piece and is verified before the response begins.
#[test]
fn a_small_nar_with_the_wrong_hash_is_not_even_begun() {
    let mut item = StoreItem::file(b"small");
    item.nar_hash = "cd".repeat(32);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    assert_eq!(harmonia.http().get(&item.nar_url()).status, 502);
}

#[test]
fn a_head_request_needs_no_nar() {
    let item = StoreItem::file(b"only asked about");
    let daemon = ScriptedDaemon::start(item.script_with_nar(|| Reply::then_disconnect([])));
    let harmonia = Harmonia::start(&daemon.config());
    let response = harmonia.http().head(&item.nar_url());
    assert_eq!(response.header("content-length"), Some(&*item.nar.len().to_string()));
    let held = response.header("etag").unwrap();
    assert_eq!(harmonia.http().get_with(&item.nar_url(), &[("If-None-Match", held)]).status, 304);
    assert_eq!(harmonia.http().get(&item.nar_url()).status, 502, "it does need it for a GET");
}
