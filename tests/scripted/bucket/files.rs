//! `/nar/FILEHASH.nar.zst`: files that other hosts have published, by an object store that plays a script.

use std::fs;
use std::thread;

use crate::support::metrics::{metrics, value};
use crate::support::nar_cache::with_nar_cache;
use crate::support::object_server::{Fault, ObjectServer, file_hash};
use crate::support::scratch;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, noise};

/// Server without paths of its own, before a bucket, with more lines of configuration.
struct Host {
    harmonia: Harmonia,
    objects: ObjectServer,
    _daemon: ScriptedDaemon,
}

impl Host {
    fn start(more: &str) -> Self {
        Self::start_before(ObjectServer::start(), more)
    }

    fn start_before(objects: ObjectServer, more: &str) -> Self {
        let daemon = ScriptedDaemon::start(Script::knowing_no_path());
        let harmonia = Harmonia::start(&format!("{}{}{more}", daemon.config(), objects.config()));
        Self { harmonia, objects, _daemon: daemon }
    }

    fn with_nar_cache(more: &str) -> Self {
        Self::start(&with_nar_cache(&scratch::fresh_dir().join("nars"), more))
    }

    /// Puts a file of this many bytes, and returns it and its URL.
    fn put(&self, size: usize) -> (Vec<u8>, String) {
        let file = noise(size);
        let url = format!("/nar/{}.nar.zst", file_hash(&file));
        self.objects.put(&url[1..], file.clone());
        (file, url)
    }
}

const NEVER: &str = "bucket.redirect_from = \"never\"\n";

#[test]
fn a_file_is_sent_whole_and_in_ranges_with_and_without_a_nar_cache() {
    for host in [Host::start(NEVER), Host::with_nar_cache(NEVER)] {
        let http = host.harmonia.http();
        let (file, url) = host.put(3_000_000);
        let head = http.head(&url);
        assert_eq!((head.status, head.header("content-length")), (200, Some("3000000")));
        for range in ["bytes=5-9", "bytes=2999990-", "bytes=0-0", "bytes=1000000-2999999", "bytes=-1"] {
            let response = http.get_with(&url, &[("Range", range)]);
            let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
            let last = last.parse().unwrap_or(2_999_999);
            let first = first.parse().unwrap_or(2_999_999);
            assert!(response.status == 206 && response.body == file[first..=last.max(first)], "{range}");
        }
        let whole = http.get(&url);
        assert!(whole.status == 200 && whole.complete && whole.body == file);
        assert_eq!(whole.header("content-type"), Some("application/x-nix-nar"));
        assert_eq!(whole.header("content-length"), Some("3000000"));
        assert!(whole.header("cache-control").unwrap().contains("immutable"));
        let tag = whole.header("etag").unwrap();
        assert_eq!(http.get_with(&url, &[("If-None-Match", tag)]).status, 304);
        assert_eq!(http.get_with(&url, &[("Range", "bytes=3000001-")]).status, 416);
        let resumed = http.get_with(&url, &[("Range", "bytes=7-"), ("If-Range", tag)]);
        assert!(resumed.body == file[7..]);
        assert_eq!(http.get(&format!("/nar/{}.nar.zst", "0".repeat(52))).status, 404);
    }
}

#[test]
fn a_body_that_breaks_goes_on_whatever_the_object_store_does() {
    for fault in [Fault::Cut(700_000), Fault::NoRanges] {
        for host in [Host::start(NEVER), Host::with_nar_cache(NEVER)] {
            let (file, url) = host.put(2_500_000);
            host.objects.play(fault);
            assert!(host.harmonia.http().get(&url).body == file, "{fault:?}");
            let rest = host.harmonia.http().get_with(&url, &[("Range", "bytes=2000000-")]);
            assert!(rest.body == file[2_000_000..], "{fault:?}");
        }
    }
}

#[test]
fn nobody_gets_a_complete_file_with_other_contents() {
    for host in [Host::start(NEVER), Host::with_nar_cache(NEVER)] {
        let http = host.harmonia.http();
        let (file, url) = host.put(2_000_000);
        let mut wrong = file.clone();
        wrong[1_000_000] ^= 1;
        for other in [wrong, [&file[..], b"more"].concat(), file[..1_500_000].to_vec()] {
            host.objects.put(&url[1..], other);
            for range in ["", "Range: bytes=1999999-\r\n", "Range: bytes=1000-\r\n"] {
                let request = format!("GET {url} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n{range}\r\n");
                let response = http.request(request.as_bytes());
                let is_refused = |status| matches!(status, 416 | 503);
                assert!(response.is_ok_and(|it| !it.complete || is_refused(it.status)), "{range:?}");
            }
        }
        host.objects.put(&url[1..], file.clone());
        assert!(http.get(&url).body == file);
    }
}

#[test]
fn many_clients_cost_one_request_and_later_ones_none() {
    let host = Host::with_nar_cache(NEVER);
    let (file, url) = host.put(4_000_000);
    let http = host.harmonia.http();
    let get = || {
        let url = url.clone();
        thread::spawn(move || http.get(&url).body)
    };
    let clients: Vec<_> = (0..8).map(|_| get()).collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap() == file));
    assert_eq!(host.objects.requests("GET", "nar/"), 1);
    host.objects.play(Fault::Unavailable);
    assert!(http.get(&url).body == file, "it is in the NAR cache");
    assert!(http.get_with(&url, &[("Range", "bytes=3999999-")]).body == file[3_999_999..]);
    assert_eq!(value(&metrics(http), "harmonia_bucket_nars_total{result=\"opened\"}"), Some(1.0));
    let (_, other) = host.put(1_000);
    let failed = http.get(&other);
    assert_eq!((failed.status, failed.header("retry-after")), (503, Some("1")));
    assert!(failed.text().starts_with("the object store of this cache is unreachable"), "{}", failed.text());
}

#[test]
fn large_files_are_redirected_to_a_public_url_or_a_signed_one() {
    let host = Host::start("bucket.redirect_from = 1000\nbucket.public_url = \"https://cdn.example.org/x\"\n");
    let http = host.harmonia.http();
    let ((small, small_url), (_, large_url)) = (host.put(999), host.put(1_000));
    assert!(http.get(&small_url).body == small);
    let response = http.get(&large_url);
    let expected = format!("https://cdn.example.org/x{large_url}");
    assert_eq!((response.status, response.header("location")), (307, Some(expected.as_str())));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(http.head(&large_url).status, 200, "a signed URL would be for GET alone");
    assert_eq!(value(&metrics(http), "harmonia_bucket_nars_total{result=\"redirected\"}"), Some(1.0));

    let key = scratch::fresh_dir().join("key");
    fs::write(&key, "AWS_ACCESS_KEY_ID=test:tester\nAWS_SECRET_ACCESS_KEY=testing\n").unwrap();
    let host = Host::start(&format!("bucket.redirect_from = 0\nbucket.credentials_file = \"{}\"\n", key.display()));
    let (_, url) = host.put(10);
    let response = host.harmonia.http().get(&url);
    let location = response.header("location").unwrap();
    assert!(response.status == 307 && location.contains(&format!("/cache{url}?")), "{location}");
    assert!(location.contains("X-Amz-Expires=3600") && location.contains("X-Amz-Signature="), "{location}");
    assert!(location.contains("X-Amz-Credential=test%3Atester%2F"), "{location}");
    assert!(!location.contains("testing"), "{location}");
}

#[test]
fn a_file_of_which_clients_were_told_is_no_404() {
    let (objects, item) = (ObjectServer::start(), StoreItem::file(b"of another host\n"));
    let url = format!("/nar/{}", objects.publish(&item));
    let host = Host::start_before(objects, NEVER);
    let http = host.harmonia.http();
    assert_eq!(http.get(&item.narinfo_url()).status, 200);
    host.objects.play(Fault::Absent);
    let response = http.get(&url);
    assert_eq!((response.status, response.header("cache-control")), (503, Some("no-store")));
    host.objects.play(Fault::Nothing);
    assert_eq!(http.get(&url).status, 200);
}
