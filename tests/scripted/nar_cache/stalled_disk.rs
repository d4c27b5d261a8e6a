//! Stalled disk of the NAR cache: other requests are not affected, and requests for compressed NARs are served without the
//! cache.
//!
//! The test freezes a file system (`fsfreeze`), so that system calls block until it thaws. Without the privilege for that the
//! test is skipped.

use crate::support::disk::{Disk, Frozen};
use crate::support::metrics::await_value;
use crate::support::nar_cache::{decoded, nar_url_of, with_nar_cache};
use crate::support::scripted_daemon::{Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

fn items() -> [StoreItem; 3] {
    [0, 1, 2].map(|number: u8| {
        let item = StoreItem::file(&vec![number; 300_000]);
        StoreItem { path: format!("/nix/store/{number:032}-item"), ..item }
    })
}

#[test]
fn a_stalled_disk_blocks_no_request_and_is_used_again_afterwards() {
    let Some(disk) = Disk::mount() else { return };
    let [kept, other, third] = items();
    let known = [kept.clone(), other.clone(), third.clone()];
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        let none = || Reply::from(Wire::new().number(LAST).number(0));
        StoreItem::reply_among(&known, query).unwrap_or_else(none)
    }));
    // A precompressed NAR might be complete before the disk stalls.
    let config = format!("{}nar_cache.precompress = \"off\"\n", daemon.config());
    let harmonia = Harmonia::start(&with_nar_cache(&disk.path().join("nars"), &config));
    let http = harmonia.http();
    harmonia.wait_for_log("opened the NAR cache");
    let urls = [&kept, &other, &third].map(|item| nar_url_of(http, &item.narinfo_url()));
    let whole = http.get(&urls[0]).body;
    await_value(http, "harmonia_nar_cache_entries", 1.0);
    assert!(disk.fsfreeze("-f"));
    let frozen = Frozen(&disk);
    // A NAR that is not cached yet cannot be written: its client gets it without the cache.
    let ask =
        |url: &str| http.request(format!("GET {url} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").as_bytes());
    std::thread::scope(|scope| {
        let tried: Vec<_> = [&urls[1], &urls[2]]
            .into_iter()
            .map(|url| scope.spawn(move || (0..5).find_map(|_| ask(url).ok().filter(|response| response.complete))))
            .collect();
        for _ in 0..20 {
            for item in [&kept, &other, &third] {
                assert_eq!(http.get(&item.narinfo_url()).status, 200);
                assert!(http.get(&item.nar_url()).body == item.nar);
            }
            assert_eq!((http.get("/health").status, http.get("/metrics").status), (200, 200));
            // It is open, and in memory.
            assert!(http.get(&urls[0]).body == whole);
        }
        for (tried, item) in tried.into_iter().zip([&other, &third]) {
            let response = tried.join().unwrap().expect("a complete response");
            assert!(response.header("accept-ranges") == Some("none") && decoded(&response.body) == item.nar);
        }
    });
    drop(frozen);
    await_value(http, "harmonia_nar_cache_fills", 0.0);
    let again = http.get(&urls[1]);
    assert!(again.header("etag").is_some() && decoded(&again.body) == other.nar);
}
