//! Compressed NARs: their narinfo fields, that their bytes never change, and that each is compressed once.

use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server::{self, narinfo_url};
use crate::support::http::Response;
use crate::support::keys;
use crate::support::metrics::{await_value, metrics, value as series};
use crate::support::nar_cache::{decoded, multi_block_nar, nar_url_of, with_nar_cache};
use crate::support::narinfo::{fields, value};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::{self};
use crate::support::wire::{LAST, Wire};

/// Starts a server with the shared daemon of the newest release.
fn server(dir: &Path) -> Harmonia {
    let daemon = format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n",
        Daemon::shared(Release::Nix2_34).socket().display(),
        keys::OURS.secret.display()
    );
    Harmonia::start(&with_nar_cache(dir, &daemon))
}

fn dumps(daemon: &ScriptedDaemon) -> usize {
    daemon.seen().queries.iter().filter(|query| matches!(query, Query::Nar(_))).count()
}

fn cache_dir() -> PathBuf {
    scratch::fresh_dir().join("nars")
}

fn part(response: &Response, first: usize, whole: &[u8]) {
    let range = format!("bytes {first}-{}/{}", whole.len() - 1, whole.len());
    assert_eq!((response.status, response.header("content-range")), (206, Some(&*range)));
    assert_eq!(response.header("accept-ranges"), Some("bytes"));
    assert!(response.body == whole[first..], "from {first}");
}

#[test]
fn a_narinfo_has_file_hash_and_size_once_they_are_measured() {
    let dir = cache_dir();
    let harmonia = server(&dir);
    let http = harmonia.http();
    for name in ["regular", "empty-directory", "symlink", "odd-entries", "deep-tree", "large"] {
        let before = http.get(&narinfo_url(name));
        let url = value(before.text(), "URL").to_owned();
        assert!(url.ends_with(".nar.zst") && url.starts_with("nar/zstd"), "{url}");
        assert_eq!(value(before.text(), "Compression"), "zstd");
        assert!(!before.text().contains("File"), "{}", before.text());
        assert_eq!(before.header("vary"), Some("accept-encoding, user-agent"));
        let file = http.get(&format!("/{url}"));
        assert_eq!((file.status, file.header("content-encoding")), (200, None));
        assert_eq!(file.header("content-type"), Some("application/x-nix-nar"));
        assert!(decoded(&file.body) == http.get(&shared_server::nar_url(name)).body, "{name}");
        // The file is entered after its last byte was sent.
        await_value(http, "harmonia_nar_cache_fills", 0.0);
        let after = http.get(&narinfo_url(name));
        let hash = harmonia_protocol::nix32::encode(digest(&SHA256, &file.body).as_ref());
        assert_eq!(value(after.text(), "FileHash"), format!("sha256:{hash}"));
        assert_eq!(value(after.text(), "FileSize"), file.body.len().to_string());
        let order: Vec<_> = fields(after.text()).into_iter().map(|(name, _)| name).take(7).collect();
        let expected = ["StorePath", "URL", "Compression", "FileHash", "FileSize", "NarHash", "NarSize"];
        assert_eq!(order, expected);
        let head = http.head(&format!("/{url}"));
        assert_eq!(head.header("content-length"), Some(&*file.body.len().to_string()));
        assert_eq!(head.header("etag"), file.header("etag"));
    }
}

#[test]
fn nix_before_2_4_gets_plain_nars() {
    let harmonia = server(&cache_dir());
    let old = [("User-Agent", "curl/7.72.0 Nix/2.3.7")];
    let narinfo = harmonia.http().get_with(&narinfo_url("regular"), &old);
    assert_eq!((value(narinfo.text(), "Compression"), narinfo.status), ("none", 200));
    assert_eq!(format!("/{}", value(narinfo.text(), "URL")), shared_server::nar_url("regular"));
}

#[test]
fn real_clients_of_every_release_copy_what_is_compressed() {
    let dir = cache_dir();
    let harmonia = server(&dir);
    let paths = ["many-references", "odd-entries", "symlink", "large"].map(|name| shared_server::content().path(name));
    for release in [Release::Nix2_3, Release::Nix2_8, Release::Nix2_26, Release::Nix2_34] {
        let client = Client::new(release, harmonia.url(), &[&keys::OURS]);
        let _ = client.copy(&paths).stdout();
        assert!(client.verified_closure(&paths).len() > 300, "{release}");
    }
    assert!(series(&metrics(harmonia.http()), "harmonia_nar_cache_requests_total{result=\"hit\"}") > Some(600.0));
}

#[test]
fn the_bytes_of_a_url_never_change() {
    let (item, daemon) = multi_block_nar();
    let (dir, other) = (cache_dir(), cache_dir());
    let whole = {
        let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
        let url = nar_url_of(harmonia.http(), &item.narinfo_url());
        let whole = harmonia.http().get(&url);
        assert!(decoded(&whole.body) == item.nar && whole.body.len() > 500_000);
        await_value(harmonia.http(), "harmonia_nar_cache_fills", 0.0);
        (url, whole)
    };
    let (url, whole) = whole;
    let places = [1, 1000, 131_071, 131_072, 131_073, 400_000, whole.body.len() - 1];
    // After a restart, from another machine, and where narinfos do not name it any more.
    let again = with_nar_cache(&dir, &daemon.config());
    let elsewhere = with_nar_cache(&other, &daemon.config());
    let later_off = format!("{}enable_compression = false\n", with_nar_cache(&dir, &daemon.config()));
    for config in [again, elsewhere, later_off] {
        let harmonia = Harmonia::start(&config);
        let http = harmonia.http();
        for first in places {
            let response = http.get_with(&url, &[("Range", &format!("bytes={first}-"))]);
            part(&response, first, &whole.body);
            assert_eq!(response.header("etag"), whole.header("etag"));
        }
        let all = http.get(&url);
        assert!(all.body == whole.body && all.header("etag") == whole.header("etag"));
    }
}

#[test]
fn ranges_of_a_compressed_nar_follow_the_rules_of_any_file() {
    let (item, daemon) = multi_block_nar();
    let harmonia = Harmonia::start(&with_nar_cache(&cache_dir(), &daemon.config()));
    let http = harmonia.http();
    let url = nar_url_of(http, &item.narinfo_url());
    let whole = http.get(&url);
    let size = whole.body.len();
    let tag = whole.header("etag").unwrap();
    assert!(tag.starts_with('"'));
    let get = |range: &str, condition: Option<&str>| {
        let mut headers = vec![("Range", range)];
        headers.extend(condition.map(|tag| ("If-Range", tag)));
        http.get_with(&url, &headers)
    };
    part(&get("bytes=100-", Some(tag)), 100, &whole.body);
    assert_eq!(get("bytes=2-5", None).body, whole.body[2..6]);
    assert_eq!(get("bytes=-7", None).body, whole.body[size - 7..]);
    for (range, condition) in [
        (format!("bytes={size}-"), None),
        ("bytes=5-2".to_owned(), None),
        ("bytes=0-1,4-5".to_owned(), None),
        ("bytes=100-".to_owned(), Some("\"other\"")),
    ] {
        let response = get(&range, condition);
        assert!(response.status == 200 && response.body == whole.body, "{range}");
        assert_eq!(response.header("content-length"), Some(&*size.to_string()), "{range}");
    }
    let beyond = get(&format!("bytes={}-", size + 1), None);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(&*format!("bytes */{size}"))));
    let held = http.get_with(&url, &[("If-None-Match", tag)]);
    assert_eq!((held.status, held.header("etag"), held.body.len()), (304, Some(tag), 0));
}

#[test]
fn a_nar_is_dumped_once_for_all_who_ask() {
    let (item, daemon) = multi_block_nar();
    let harmonia = Harmonia::start(&with_nar_cache(&cache_dir(), &daemon.config()));
    let http = harmonia.http();
    let url = nar_url_of(http, &item.narinfo_url());
    let bodies: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| http.get(&url).body)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(decoded(&bodies[0]) == item.nar && bodies.iter().all(|body| *body == bodies[0]));
    await_value(http, "harmonia_nar_cache_fills", 0.0);
    assert!(http.get(&url).body == bodies[0]);
    // By the URL of before too.
    let coded = http.get_with(&item.nar_url(), &[("Accept-Encoding", "zstd")]);
    assert!(coded.header("content-encoding") == Some("zstd") && coded.body == bodies[0]);
    assert_eq!(dumps(&daemon), 1);
}

#[test]
fn a_client_that_leaves_stops_no_fill() {
    let (item, daemon) = multi_block_nar();
    let harmonia = Harmonia::start(&with_nar_cache(&cache_dir(), &daemon.config()));
    let http = harmonia.http();
    let url = nar_url_of(http, &item.narinfo_url());
    let mut leaving = std::net::TcpStream::connect(harmonia.address()).unwrap();
    std::io::Write::write_all(&mut leaving, format!("GET {url} HTTP/1.1\r\nHost: cache\r\n\r\n").as_bytes()).unwrap();
    daemon.wait_until(|seen| seen.queries.iter().any(|query| matches!(query, Query::Nar(_))));
    drop(leaving);
    await_value(http, "harmonia_nar_cache_entries", 1.0);
    assert!(decoded(&http.get(&url).body) == item.nar);
    assert_eq!(dumps(&daemon), 1);
}

#[test]
fn a_range_of_a_plain_nar_is_decoded_from_the_cached_one() {
    let (item, daemon) = multi_block_nar();
    let harmonia = Harmonia::start(&with_nar_cache(&cache_dir(), &daemon.config()));
    let http = harmonia.http();
    let _ = http.get(&nar_url_of(http, &item.narinfo_url()));
    await_value(http, "harmonia_nar_cache_entries", 1.0);
    for first in [1, 262_144, item.nar.len() - 1024, item.nar.len() - 1] {
        part(&http.get_with(&item.nar_url(), &[("Range", &format!("bytes={first}-"))]), first, &item.nar);
    }
    assert_eq!(dumps(&daemon), 1);
    // All of it comes from the daemon, unless that fails.
    assert!(http.get(&item.nar_url()).body == item.nar);
    assert_eq!(dumps(&daemon), 2);
    daemon.play(item.script_with_nar(|| Reply::then_disconnect(Vec::new())));
    assert!(http.get(&item.nar_url()).body == item.nar);
}

#[test]
fn a_path_that_was_deleted_is_404_at_once_and_a_download_of_it_may_end() {
    let (item, daemon) = multi_block_nar();
    let harmonia = Harmonia::start(&with_nar_cache(&cache_dir(), &daemon.config_without_cache()));
    let http = harmonia.http();
    let url = nar_url_of(http, &item.narinfo_url());
    let whole = http.get(&url).body;
    await_value(http, "harmonia_nar_cache_entries", 1.0);
    daemon.play(Script::replying(|_| Wire::new().number(LAST).string("").into()));
    assert_eq!(http.get(&item.narinfo_url()).status, 404);
    assert_eq!((http.get(&url).status, http.head(&url).status, http.get(&item.nar_url()).status), (404, 404, 404));
    part(&http.get_with(&url, &[("Range", "bytes=1000-")]), 1000, &whole);
}

#[test]
fn what_another_encoder_made_is_not_made_up() {
    let (item, daemon) = multi_block_nar();
    let harmonia = Harmonia::start(&with_nar_cache(&cache_dir(), &daemon.config()));
    let http = harmonia.http();
    let url = nar_url_of(http, &item.narinfo_url());
    let other = url.replacen("/zstd1.", "/zstd0.", 1);
    assert_ne!(url, other);
    // Mirrors that know URLs of other caches (ncps) keep only the last component.
    let last = format!("/nar/{}", url.rsplit_once('/').unwrap().1);
    for other in [other, last] {
        let (whole, head) = (http.get(&other), http.head(&other));
        assert!(decoded(&whole.body) == item.nar);
        for response in [&whole, &head] {
            assert_eq!(response.status, 200, "{other}");
            let headers = ["accept-ranges", "cache-control", "etag"].map(|name| response.header(name));
            assert_eq!(headers, [Some("none"), Some("no-store"), None], "{other}");
        }
        assert_eq!(http.get_with(&other, &[("Range", "bytes=1000-")]).status, 404);
        assert_eq!(http.get(&other.replacen(&item.nar_hash_in_nix32(), &"0".repeat(52), 1)).status, 404);
    }
    let part = store_item::hash_part(&item.path);
    assert_eq!(http.get(&url.replacen(part, &part.replace('0', "1"), 1)).status, 404);
}

/// Clients cache its URL for 30 days.
#[test]
fn without_a_nar_cache_compressed_nars_are_still_served_and_narinfos_name_plain_ones() {
    let (item, daemon) = multi_block_nar();
    let url = {
        let harmonia = Harmonia::start(&with_nar_cache(&cache_dir(), &daemon.config()));
        nar_url_of(harmonia.http(), &item.narinfo_url())
    };
    let harmonia = Harmonia::start(&format!("{}enable_compression = true\n", daemon.config()));
    assert!(harmonia.wait_for_log("enable_compression has no effect").contains("WARN"));
    let http = harmonia.http();
    let narinfo = http.get(&item.narinfo_url());
    assert_eq!(value(narinfo.text(), "Compression"), "none");
    let whole = http.get(&url);
    assert_eq!((whole.status, whole.header("etag")), (200, None));
    assert_eq!((whole.header("accept-ranges"), whole.header("cache-control")), (Some("none"), Some("no-store")));
    assert_eq!(whole.header("content-length"), Some(&*whole.body.len().to_string()));
    assert!(decoded(&whole.body) == item.nar);
    // What the client has of it cannot go on from here, and another cache may have it.
    assert_eq!(http.get_with(&url, &[("Range", "bytes=1000-")]).status, 404);
    assert_eq!(http.head(&url).status, 200);
}

#[test]
fn a_nar_that_would_not_fit_is_named_as_it_is() {
    let (item, daemon) = multi_block_nar();
    let dir = cache_dir();
    let harmonia =
        Harmonia::start(&format!("{}nar_cache.max_size = \"1 MiB\"\n", with_nar_cache(&dir, &daemon.config())));
    let url = nar_url_of(harmonia.http(), &item.narinfo_url());
    assert_eq!(url, item.nar_url());
    assert!(harmonia.http().get(&url).body == item.nar);
}
