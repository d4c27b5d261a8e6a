//! `/log/…`: logs in every form, and damaged ones.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bzip2::Compression;
use bzip2::write::BzEncoder;

use crate::support::http::{Http, Response};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

const TEXT: &str = "unpacking sources\nbuilding größe\ndone\n";

/// Server with a log directory, and a daemon with one output of one deriver.
struct Logs {
    dir: PathBuf,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
}

impl Logs {
    fn new() -> Self {
        let dir = scratch::fresh_dir();
        let mut item = StoreItem::file(b"output");
        item.deriver = format!("/nix/store/{}-built.drv", "1".repeat(32));
        let daemon = ScriptedDaemon::start(item.script());
        let harmonia = Harmonia::start(&format!("{}build_log_dir = \"{}\"\n", daemon.config(), dir.display()));
        Self { dir, daemon, harmonia }
    }

    /// Returns the file for the log of this derivation, and creates its directory.
    fn place(&self, base_name: &str) -> PathBuf {
        let (start, rest) = base_name.split_at(2);
        let dir = self.dir.join("drvs").join(start);
        fs::create_dir_all(&dir).unwrap();
        dir.join(rest)
    }

    fn add(&self, base_name: &str, bytes: &[u8]) {
        fs::write(self.place(base_name), bytes).unwrap();
    }

    fn http(&self) -> Http {
        self.harmonia.http()
    }

    fn get(&self, name: &str) -> Response {
        self.http().get(&format!("/log/{name}"))
    }
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(32)
}

fn bzip2(text: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Returns lines that bzip2 hardly compresses.
fn long_text() -> Vec<u8> {
    let mut state = 1_u64;
    let mut text = Vec::new();
    for _ in 0..200_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("{state:x}\n").as_bytes());
    }
    text
}

#[test]
fn a_log_is_plain_text_however_it_is_stored() {
    let logs = Logs::new();
    let name = |digit| format!("{}-a+b=c.drv", hash(digit));
    logs.add(&name('2'), TEXT.as_bytes());
    logs.add(&format!("{}.bz2", name('3')), &bzip2(TEXT.as_bytes()));
    logs.add(&format!("{}.zst", name('4')), &zstd::encode_all(TEXT.as_bytes(), 3).unwrap());
    // Several streams one after the other are one text.
    logs.add(&format!("{}.bz2", name('5')), &[bzip2(b"first\n"), bzip2(b"second\n")].concat());
    for (digit, text) in [('2', TEXT), ('3', TEXT), ('4', TEXT), ('5', "first\nsecond\n")] {
        for sent in ["", "-", "-a+b=c.drv", "-a%2Bb%3Dc.drv", "-a+b=c.drv!out", "-a%2Bb%3Dc.drv%21out", "-?x=y"] {
            let response = logs.get(&format!("{}{sent}", hash(digit)));
            assert_eq!((response.status, response.text()), (200, text), "{digit} {sent}");
            assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(response.header("content-encoding"), None);
        }
        let head = logs.http().head(&format!("/log/{}", name(digit)));
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/plain; charset=utf-8")));
        assert_ne!(head.header("content-length"), Some("0"));
        // Which has no other way to tell that a log is complete.
        let by_http_1_0 = logs.http().exchange(format!("GET /log/{} HTTP/1.0\r\n\r\n", hash(digit)).as_bytes());
        let by_http_1_0 = String::from_utf8(by_http_1_0).unwrap().to_lowercase();
        assert!(by_http_1_0.contains(&format!("content-length: {}\r\n", text.len())), "{by_http_1_0}");
        assert!(by_http_1_0.ends_with(&text.to_lowercase()), "{by_http_1_0}");
    }
    assert_eq!(logs.daemon.seen().queries, [], "a log that is there needs no daemon");
}

#[test]
fn an_outputs_log_is_its_derivers() {
    let logs = Logs::new();
    logs.add(&format!("{}-built.drv.bz2", hash('1')), &bzip2(TEXT.as_bytes()));
    let output = "0123456789abcdfghijklmnpqrsvwxyz-scripted";
    assert_eq!(logs.get(output).text(), TEXT);
    fs::remove_dir_all(logs.dir.join("drvs")).unwrap();
    assert_eq!(logs.get(output).status, 404);
}

#[test]
fn what_has_no_log_is_404_also_where_there_is_no_log_directory() {
    let logs = Logs::new();
    assert_eq!(logs.get(&format!("{}-x.drv", hash('2'))).status, 404);
    logs.add(&format!("{}-x.drv", hash('2')), b"");
    assert_eq!(logs.get(&format!("{}3-x.drv", &hash('2')[1..])).status, 404);
    assert_eq!(logs.get(&format!("{}-x.drv", hash('2'))).status, 200);
    assert!(logs.daemon.seen().queries.iter().all(|query| matches!(query, Query::PathFromHashPart(_))));
}

#[test]
fn a_plain_log_has_length_ranges_and_a_tag_that_changes_with_it() {
    let logs = Logs::new();
    let name = format!("{}-x.drv", hash('2'));
    logs.add(&name, b"0123456789");
    let url = format!("/log/{name}");
    let whole = logs.http().get(&url);
    let tag = whole.header("etag").unwrap();
    assert_eq!((whole.header("content-length"), whole.header("cache-control")), (Some("10"), Some("public, no-cache")));
    let part = logs.http().get_with(&url, &[("Range", "bytes=3-5"), ("If-Range", tag)]);
    assert_eq!((part.status, part.text(), part.header("content-range")), (206, "345", Some("bytes 3-5/10")));
    assert_eq!(logs.http().get_with(&url, &[("Range", "bytes=11-")]).status, 416);
    assert_eq!(logs.http().get_with(&url, &[("If-None-Match", tag)]).status, 304);
    assert_eq!(logs.http().head(&url).header("content-length"), Some("10"));
    logs.add(&name, b"0123456789 and more");
    assert_eq!(logs.http().get_with(&url, &[("If-None-Match", tag)]).status, 200);
    assert_eq!(logs.http().get_with(&url, &[("Range", "bytes=3-5"), ("If-Range", tag)]).status, 200);
}

#[test]
fn a_compressed_log_cut_short_or_damaged_never_makes_a_complete_response() {
    let logs = Logs::new();
    let text = long_text();
    let (bz2, zst) = (bzip2(&text), zstd::encode_all(&*text, 3).unwrap());
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let mut damaged = bz2.clone();
    damaged[bz2.len() / 2] ^= 0x55;
    for (digit, suffix, bytes) in [
        ('2', "bz2", cut(&bz2)),
        ('3', "bz2", bz2[..bz2.len() - 1].to_vec()),
        ('4', "bz2", damaged),
        ('5', "zst", cut(&zst)),
        ('6', "bz2", b"not bzip2 at all".to_vec()),
        ('7', "zst", b"not zstd at all!".to_vec()),
    ] {
        logs.add(&format!("{}-x.drv.{suffix}", hash(digit)), &bytes);
        let came = logs.http().get_failing(&format!("/log/{}", hash(digit)), &[]);
        // bzip2 finds damage at the end of its block, when the block has been sent.
        assert!(digit == '4' || text.starts_with(&came), "{digit}: {} bytes that are not the log's", came.len());
    }
    logs.add(&format!("{}-x.drv.bz2", hash('8')), &bz2);
    assert!(logs.get(&hash('8')).body == text);
}

fn fifo(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[test]
fn links_fifos_and_directories_are_no_logs() {
    let logs = Logs::new();
    let secret = logs.dir.join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, logs.place(&format!("{}-x.drv", hash('2')))).unwrap();
    fifo(&logs.place(&format!("{}-x.drv", hash('3'))));
    fs::create_dir(logs.place(&format!("{}-x.drv", hash('4')))).unwrap();
    // A whole directory that is elsewhere.
    let elsewhere = scratch::fresh_dir();
    fs::write(elsewhere.join(format!("{}-x.drv", "5".repeat(30))), "secret").unwrap();
    symlink(&elsewhere, logs.dir.join("drvs/55")).unwrap();
    // Nor are files with other names.
    logs.add(&format!("{}-x.drv.gz", hash('6')), b"secret");
    logs.add(&format!("{}-x", hash('7')), b"secret");
    for digit in '2'..='7' {
        let response = logs.get(&hash(digit));
        assert_eq!(
            (response.status, response.text()),
            (404, "this cache has no log of this derivation or store path\n"),
            "{digit}"
        );
    }
}

#[test]
fn log_names_that_are_paths_are_a_404_without_a_query() {
    let logs = Logs::new();
    fs::create_dir_all(logs.dir.join("drvs/22")).unwrap();
    fs::write(logs.dir.join("drvs/secret"), "secret").unwrap();
    for name in [
        "../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "22/../secret",
        "22%2f..%2fsecret",
        &format!("{}-..%2f..%2fsecret", hash('2')),
        &format!("{}-x.drv%00", hash('2')),
        &format!("{}-x.drv/..", hash('2')),
        &format!("{}-{}", hash('2'), "x".repeat(300)),
        "",
        "22",
        &hash('e'),
    ] {
        assert_eq!(logs.get(name).status, 404, "{name}");
    }
    assert_eq!(logs.daemon.seen().queries, []);
}
