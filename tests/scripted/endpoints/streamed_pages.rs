//! Listings and pages of directories: rendered while they are sent, so that their memory is bounded whatever the size of the
//! directory, and not at all without a reader.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;

use crate::support::footprint::most_memory;
use crate::support::http::Http;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::wire::Wire;

/// Limit on memory for four readers, in bytes, which includes what the allocator keeps.
const BOUND: u64 = 48 << 20;

/// Returns the peak memory of four responses whose readers stop after the first bytes, and one that is read to its end.
fn peak_of_five(harmonia: &Harmonia, url: &str, least: usize) -> u64 {
    assert_eq!(harmonia.http().get("/nix-cache-info").status, 200);
    let before = most_memory(harmonia.pid());
    let stalled = [(); 4].map(|()| {
        let mut stream = TcpStream::connect(harmonia.address()).unwrap();
        write!(stream, "GET {url} HTTP/1.1\r\nHost: cache\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 4096]).unwrap();
        stream
    });
    let whole = harmonia.http().get(url);
    assert!(whole.status == 200 && whole.body.len() > least, "{} bytes", whole.body.len());
    drop(stalled);
    most_memory(harmonia.pid()) - before
}

/// Returns the NAR of a directory of this many symlinks, whose names are control characters, six bytes each in JSON.
fn control_characters(count: usize) -> StoreItem {
    let mut nar = Wire::new().string("nix-archive-1").string("(").string("type").string("directory");
    for n in 0..count {
        let name = [&[1; 240][..], format!("{n:08}").as_bytes()].concat();
        nar = nar.strings_of(&["entry", "(", "name"]).string(name);
        nar = nar.strings_of(&["node", "(", "type", "symlink", "target", "x", ")", ")"]);
    }
    StoreItem::with_nar(nar.string(")").done())
}

#[test]
fn a_listing_takes_no_memory_for_its_length() {
    let item = control_characters(60_000);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let peak = peak_of_five(&harmonia, &format!("/{}.ls", item.hash_part()), 80 << 20);
    assert!(peak < BOUND, "{peak}");
}

/// Starts a server with a path that is a directory of this many symlinks, with targets of maximum length.
fn long_links(count: usize) -> (StoreItem, ScriptedDaemon, Harmonia) {
    let (item, store) = (StoreItem::file(b"not looked at"), scratch::fresh_dir());
    let root = store.join(item.path.strip_prefix("/nix/store/").unwrap());
    fs::create_dir(&root).unwrap();
    for n in 0..count {
        symlink("&".repeat(4095), root.join(n.to_string())).unwrap();
    }
    let daemon = ScriptedDaemon::start(item.script());
    let config = format!("{}real_nix_store = \"{}\"\n{}", daemon.config(), store.display(), nar_cache_on_demand());
    let harmonia = Harmonia::start(&config);
    (item, daemon, harmonia)
}

#[test]
fn a_page_takes_no_memory_for_its_length() {
    let (item, _daemon, harmonia) = long_links(4_000);
    let peak = peak_of_five(&harmonia, &format!("/serve/{}/", item.hash_part()), 60 << 20);
    assert!(peak < BOUND, "{peak}");
}

/// Requests a URL by HTTP/1.0 and returns the body, which must be as long as `Content-Length`.
fn by_http_1_0(http: Http, url: &str) -> Vec<u8> {
    let raw = http.exchange(format!("GET {url} HTTP/1.0\r\nAccept-Encoding: zstd\r\n\r\n").as_bytes());
    let (head, body) = raw.split_at(raw.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4);
    let head = String::from_utf8_lossy(head).to_lowercase();
    assert!(head.contains(" 200 ") && !head.contains("content-encoding"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    body.to_vec()
}

#[test]
fn each_form_has_its_tag_and_http_1_0_its_length() {
    let (item, _daemon, harmonia) = long_links(100);
    let http = harmonia.http();
    for url in [format!("/{}.ls", item.hash_part()), format!("/serve/{}/", item.hash_part())] {
        let (plain, coded) = (http.get(&url), http.get_with(&url, &[("Accept-Encoding", "zstd")]));
        assert_eq!((plain.header("content-encoding"), coded.header("content-encoding")), (None, Some("zstd")), "{url}");
        assert!(zstd::decode_all(&*coded.body).unwrap() == plain.body, "{url}");
        assert_ne!(plain.header("etag"), coded.header("etag"), "{url}");
        assert_eq!([plain.header("vary"), coded.header("vary")], [Some("accept-encoding"); 2], "{url}");
        assert!(by_http_1_0(http, &url) == plain.body, "{url}");
    }
}

#[test]
fn head_and_304_of_a_listing_read_no_nar() {
    let item = StoreItem::file(b"not to be read");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let (http, url) = (harmonia.http(), format!("/{}.ls", item.hash_part()));
    let head = http.head(&url);
    let tag = head.header("etag").unwrap();
    assert_eq!((head.status, http.get_with(&url, &[("If-None-Match", tag)]).status), (200, 304));
    let nars = || daemon.seen().queries.iter().filter(|asked| matches!(asked, Query::Nar(_))).count();
    assert_eq!(nars(), 0);
    let whole = http.get(&url);
    assert_eq!((whole.status, whole.header("etag"), nars()), (200, Some(tag), 1));
}
