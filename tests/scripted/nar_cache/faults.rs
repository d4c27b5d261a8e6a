//! Faults of the NAR cache: damaged files, errors of the disk, failing fills, and operators who delete files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::footprint::descriptors;
use crate::support::http2_frames::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, frame, get};
use crate::support::metrics::{await_value, metrics, value as series};
use crate::support::nar_cache::{decoded, multi_block_nar, nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::scripted_daemon::{Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// Returns all files below a directory but the lock and the marker.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("lock") && !path.ends_with("CACHEDIR.TAG") {
            found.push(path);
        }
    }
    found
}

fn the_file(dir: &Path) -> PathBuf {
    let [file] = &files(dir)[..] else { panic!("{:?}", files(dir)) };
    file.clone()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

const CORRUPT: &str = "harmonia_nar_cache_removed_total{reason=\"corrupt\"}";

#[test]
fn a_file_that_has_rotted_breaks_the_body_and_the_client_resumes_it() {
    let (item, daemon) = multi_block_nar();
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
    let http = harmonia.http();
    let url = nar_url_of(http, &item.narinfo_url());
    let whole = http.get(&url).body;
    let places = [3, 131_072 * 2 + 9, whole.len() - 1];
    for (times, at) in (1..).zip(places) {
        await_value(http, "harmonia_nar_cache_entries", 1.0);
        // Written in place: the server has the file open.
        flip(&the_file(&dir), at);
        let received = http.get_failing(&url, &[]);
        assert!(whole.starts_with(&received) && received.len() <= at, "{at}");
        harmonia.wait_for_log_times("ERROR removing", times);
        assert_eq!(series(&metrics(http), CORRUPT), Some(f64::from(u32::try_from(times).unwrap())), "{at}");
        // It is compressed again.
        let rest = http.get_with(&url, &[("Range", &format!("bytes={}-", received.len()))]);
        assert!([received, rest.body].concat() == whole, "{at}");
    }
    await_value(http, "harmonia_nar_cache_entries", 1.0);
    drop(harmonia);
    for at in places {
        let file = the_file(&dir);
        flip(&file, at);
        let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
        let plain = harmonia.http().request(
            format!("GET {} HTTP/1.1\r\nHost: cache\r\nRange: bytes=5-\r\nConnection: close\r\n\r\n", item.nar_url())
                .as_bytes(),
        );
        // Nothing can take the place of bytes that were promised by a decoder. Even the head may be lost.
        assert!(plain.ok().is_none_or(|response| !response.complete || response.body == item.nar[5..]), "{at}");
        // Found out when it is opened, or read.
        let again = |_| {
            harmonia
                .http()
                .request(format!("GET {url} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n\r\n").as_bytes())
        };
        let complete: Vec<_> = (0..3).map(again).filter_map(|it| it.ok().filter(|it| it.complete)).collect();
        assert!(complete.len() >= 2 && complete.iter().all(|it| it.body == whole), "{at}");
        await_value(harmonia.http(), "harmonia_nar_cache_entries", 1.0);
    }
}

#[test]
fn where_the_directory_cannot_be_used_nars_are_served_as_they_are() {
    let (item, daemon) = multi_block_nar();
    // Root may write everywhere, but not below a file.
    let dir = scratch::fresh_dir().join("file");
    fs::write(&dir, "").unwrap();
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
    assert!(harmonia.wait_for_log("as the NAR cache").contains("ERROR"));
    let url = nar_url_of(harmonia.http(), &item.narinfo_url());
    assert_eq!(url, item.nar_url());
    assert!(harmonia.http().get(&url).body == item.nar);
}

#[test]
fn a_directory_that_goes_away_is_complained_of_once_and_nars_are_served_uncompressed() {
    let (item, daemon) = multi_block_nar();
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
    let http = harmonia.http();
    harmonia.wait_for_log("opened the NAR cache");
    fs::remove_dir_all(&dir).unwrap();
    let url = nar_url_of(http, &item.narinfo_url());
    for _ in 0..3 {
        let whole = http.get(&url);
        assert!(decoded(&whole.body) == item.nar && whole.header("accept-ranges") == Some("none"));
        // Another time, perhaps.
        let part = http.get_with(&url, &[("Range", "bytes=9-")]);
        assert_eq!((part.status, part.header("accept-ranges")), (503, Some("bytes")));
    }
    let coded = http.get_with(&item.nar_url(), &[("Accept-Encoding", "zstd")]);
    assert!(coded.header("content-encoding").is_none() && coded.body == item.nar);
    assert_eq!(harmonia.log().matches("ERROR cannot write to the NAR cache in").count(), 1, "{}", harmonia.log());
}

#[test]
fn a_nar_that_fails_in_a_fill_breaks_the_body_and_leaves_no_file() {
    let item = StoreItem::file_of(3_000_000);
    for (case, change) in [("cut", None), ("of another hash", Some(2_000_000))] {
        let mut nar = item.nar.clone();
        match change {
            None => nar.truncate(2_000_000),
            Some(at) => nar[at] ^= 1,
        }
        let reply = move || Reply::then_disconnect(Wire::new().number(LAST).raw(&nar).done());
        let daemon = ScriptedDaemon::start(item.script_with_nar(reply));
        for headers in [&[][..], &[("Range", "bytes=10-")]] {
            let dir = scratch::fresh_dir().join("nars");
            let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
            let http = harmonia.http();
            let body = http.get_failing(&nar_url_of(http, &item.narinfo_url()), headers);
            assert!(zstd::stream::decode_all(&body[..]).is_err() || body.is_empty(), "{case}: a complete frame");
            await_value(http, "harmonia_nar_cache_fills", 0.0);
            assert_eq!(files(&dir), Vec::<PathBuf>::new(), "{case}");
            assert!(!http.get(&item.narinfo_url()).text().contains("FileSize"), "{case}");
        }
    }
}

#[test]
fn a_process_that_is_killed_in_a_fill_leaves_nothing_that_is_served() {
    let item = StoreItem::file_of(3_000_000);
    let half = item.nar[..2_000_000].to_vec();
    // The daemon does not send the rest yet.
    let stalling = item.script_with_nar(move || Wire::new().number(LAST).raw(&half).into());
    let daemon = ScriptedDaemon::start(stalling);
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
    let url = nar_url_of(harmonia.http(), &item.narinfo_url());
    let mut client = std::net::TcpStream::connect(harmonia.address()).unwrap();
    std::io::Write::write_all(&mut client, format!("GET {url} HTTP/1.1\r\nHost: cache\r\n\r\n").as_bytes()).unwrap();
    // The head comes when something is written, or half a second later.
    assert!(std::io::Read::read(&mut client, &mut [0; 1]).unwrap() > 0);
    assert_eq!(files(&dir).len(), 1);
    drop(harmonia);
    assert_eq!(files(&dir).len(), 1, "it was killed");
    daemon.play(item.script());
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
    harmonia.wait_for_log("opened the NAR cache");
    assert_eq!(files(&dir), Vec::<PathBuf>::new());
    assert!(decoded(&harmonia.http().get(&url).body) == item.nar);
}

#[test]
fn operators_count_and_prove_and_clear_while_a_server_runs() {
    let (item, daemon) = multi_block_nar();
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
    let http = harmonia.http();
    let url = nar_url_of(http, &item.narinfo_url());
    let whole = http.get(&url).body;
    await_value(http, "harmonia_nar_cache_entries", 1.0);
    let config = scratch::fresh_dir().join("config.toml");
    fs::write(&config, with_nar_cache(&dir, &daemon.config())).unwrap();
    let cache = |action: &str| -> Output {
        Harmonia::program()
            .arg("--config")
            .arg(&config)
            .args(["cache", action])
            .stdout(std::process::Stdio::piped())
            .output()
            .unwrap()
    };
    let says = |output: &Output, code, text: &str| {
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(code) && stdout.contains(text), "{code} {text}: {output:?}");
    };
    says(&cache("stats"), 0, " 1 NAR, ");
    says(&cache("verify"), 0, " verified 1 NAR, 0 corrupt");
    flip(&the_file(&dir), 500_000);
    says(&cache("verify"), 65, " verified 1 NAR, 1 corrupt");
    says(&cache("stats"), 0, " 0 NARs, ");
    // The server's file is open and wrong, which it finds out.
    assert!(whole.starts_with(&http.get_failing(&url, &[])));
    assert!(http.get(&url).body == whole);
    await_value(http, "harmonia_nar_cache_fills", 0.0);
    says(&cache("clear"), 0, "removed 1 NAR");
    assert_eq!(files(&dir), Vec::<PathBuf>::new());
    assert!(http.get(&url).body == whole);
}

/// Each of them would hold a descriptor of its own, and those of 11 connections would be all.
#[test]
fn clients_that_stop_reading_keep_few_files_open() {
    let item = |number: u32| {
        let mut state = number + 1;
        let noise = (0..200_000).map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        });
        StoreItem { path: format!("/nix/store/{number:032}-item"), ..StoreItem::file(&noise.collect::<Vec<_>>()) }
    };
    let items: Vec<_> = (0..200).map(item).collect();
    let known = items.clone();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        StoreItem::reply_among(&known, query).unwrap_or_else(|| panic!("asked {query:?}"))
    }));
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &format!("{}zstd.level = 1\n", daemon.config())));
    let http = harmonia.http();
    let urls: Vec<_> = items.iter().map(|item| nar_url_of(http, &item.narinfo_url())).collect();
    let whole: Vec<_> = urls.iter().map(|url| http.get(url).body).collect();
    await_value(http, "harmonia_nar_cache_entries", 200.0);
    // More of each than its window and that of the connection.
    let connections: Vec<_> = urls
        .chunks(100)
        .map(|urls| {
            let mut connection = RawHttp2::open(harmonia.address());
            for (stream, url) in (1..).step_by(2).zip(urls) {
                assert!(connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(url))));
            }
            connection
        })
        .collect();
    // And whoever asks for the metrics.
    await_value(http, "harmonia_http_requests_in_flight", 201.0);
    let open = descriptors(harmonia.pid()).iter().filter(|path| path.starts_with(&dir)).count();
    assert!((1..=150).contains(&open), "{open} files are open");
    for (url, whole) in urls.iter().zip(whole) {
        assert!(http.get(url).body == whole);
    }
    drop(connections);
}
