//! `/nar/…` without ranges.

use std::io::Read as _;
use std::net::TcpStream;

use crate::sample::{self, http, nar_url};
use crate::support::http::{Connection, Response};
use crate::support::narinfo::value;
use crate::support::scripted_daemon::{Reply, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::{LAST, Wire};

const TYPE: &str = "application/x-nix-nar";

#[test]
fn a_nar_has_its_content_type_and_accept_ranges_and_no_encoding() {
    for name in ["regular", "symlink", "empty-directory", "empty-file", "odd-entries"] {
        let response = http().get_with(&nar_url(name), &[("Accept-Encoding", "zstd, br, gzip, deflate, bzip2, xz")]);
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(response.header("accept-ranges"), Some("bytes"), "{name}");
        assert_eq!(response.header("content-type"), Some(TYPE), "{name}");
        assert_eq!(response.header("content-encoding"), None, "{name}");
    }
}

#[test]
fn the_content_length_is_the_nar_size() {
    for name in ["empty-file", "executable", "large"] {
        let response = http().get(&nar_url(name));
        assert_eq!(response.header("content-length"), Some(value(&sample::narinfo(name), "NarSize")), "{name}");
        assert!(response.body == sample::item(name).nar, "{name}");
    }
}

fn strong_tag(response: &Response) -> String {
    let tag = response.header("etag").unwrap();
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    tag.to_owned()
}

#[test]
fn the_entity_tag_is_strong_and_the_same_on_200_206_head_and_304() {
    let url = nar_url("deep-tree");
    let tag = strong_tag(&http().get(&url));
    let part = http().get_with(&url, &[("Range", "bytes=3-")]);
    assert_eq!((part.status, strong_tag(&part)), (206, tag.clone()));
    assert_eq!(strong_tag(&http().head(&url)), tag);
    let held = http().get_with(&url, &[("If-None-Match", &tag)]);
    assert_eq!((held.status, strong_tag(&held), held.body.len()), (304, tag.clone(), 0));
    assert_ne!(strong_tag(&http().get(&nar_url("regular"))), tag);
    let other = http().get_with(&url, &[("If-None-Match", "\"other\"")]);
    assert_eq!(other.status, 200);
}

#[test]
fn a_source_that_fails_in_the_middle_breaks_the_connection() {
    let item = StoreItem::file_of(300_000);
    let cut = item.nar[..200_000].to_vec();
    let daemon = ScriptedDaemon::start(
        item.script_with_nar(move || Reply::then_disconnect(Wire::new().number(LAST).raw(&cut).done())),
    );
    for (config, headers) in [(String::new(), &[][..]), (nar_cache_on_demand(), &[("Accept-Encoding", "zstd")])] {
        let harmonia = Harmonia::start(&format!("{}{config}", daemon.config()));
        let body = harmonia.http().get_failing(&item.nar_url(), headers);
        assert!(!config.is_empty() || item.nar.starts_with(&body));
        // What is compressed fails before its head is sent.
        let line = harmonia.wait_for_log(if config.is_empty() { "aborted: " } else { "answered 502: " });
        assert!(line.contains(&format!("{:?}", item.nar_url())), "{line}");
    }
}

#[test]
fn a_url_with_another_nar_hash_is_a_404() {
    let (regular, other) = (sample::narinfo("regular"), sample::narinfo("executable"));
    let hash = |narinfo| value(narinfo, "NarHash").strip_prefix("sha256:").unwrap();
    let part = hash_part(sample::item("regular").path.as_str());
    assert_eq!(http().get(&format!("/nar/{part}-{}.nar", hash(&regular))).status, 200);
    for url in [format!("/nar/{part}-{}.nar", hash(&other)), format!("/nar/{}.nar?hash={part}", hash(&other))] {
        for response in [http().get(&url), http().head(&url)] {
            assert_eq!((response.status, response.header("cache-control")), (404, Some("no-store")), "{url}");
        }
    }
}

#[test]
fn older_url_forms_are_served_with_parameters_in_any_order() {
    let narinfo = sample::narinfo("executable");
    let hash = value(&narinfo, "NarHash").strip_prefix("sha256:").unwrap();
    let part = hash_part(sample::item("executable").path.as_str());
    let expected = &sample::item("executable").nar;
    for url in [
        format!("/nar/{part}-{hash}.nar"),
        format!("/nar/{hash}.nar?hash={part}"),
        format!("/nar/{hash}.nar?a=b&hash={part}"),
        format!("/nar/{hash}.nar?hash={part}&z=1"),
    ] {
        let response = http().get(&url);
        assert!(response.status == 200 && response.body == *expected, "{url}: {}", response.status);
        assert_eq!(response.header("etag"), http().get(&nar_url("executable")).header("etag"), "{url}");
    }
}

/// Clients cache such a URL for 30 days together with the NAR hash, so that another NAR would be rejected.
#[test]
fn a_url_without_a_nar_hash_is_served_uncacheably() {
    let url = format!("/nar/{}.nar", hash_part(sample::item("executable").path.as_str()));
    let (whole, head) = (http().get(&url), http().head(&url));
    assert!(whole.status == 200 && whole.body == sample::item("executable").nar);
    let part = http().get_with(&url, &[("Range", "bytes=5-")]);
    assert!(part.status == 206 && part.body == whole.body[5..]);
    for response in [&whole, &head, &part] {
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(response.header("etag"), http().get(&nar_url("executable")).header("etag"));
    }
    assert_eq!(http().get(&format!("/nar/{}.nar", "0".repeat(32))).status, 404);
}

/// The daemon here never sends the second byte of the NAR.
#[test]
fn the_head_of_a_huge_nar_is_sent_before_the_nar_is_read() {
    let mut item = StoreItem::file(b"a beginning");
    item.nar_size = 10 << 30;
    let beginning = item.nar[..1].to_vec();
    let daemon = ScriptedDaemon::start(item.script_with_nar(move || Wire::new().number(LAST).raw(&beginning).into()));
    let harmonia = Harmonia::start(&daemon.config());
    let mut stream = TcpStream::connect(harmonia.address()).unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: cache\r\n\r\n", item.nar_url());
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ") && head.contains("\r\ncontent-length: 10737418240\r\n"), "{head}");
}

#[test]
fn the_daemon_connection_of_a_client_that_disconnects_is_closed() {
    let item = StoreItem::file_of(32 << 20);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let mut leaving = Connection::open(harmonia.address()).unwrap();
    leaving.send(format!("GET {} HTTP/1.1\r\nHost: cache\r\n\r\n", item.nar_url()).as_bytes()).unwrap();
    daemon.wait_until(|seen| seen.queries.len() == 3);
    assert_eq!(daemon.seen().closed_by_client, 0);
    drop(leaving);
    daemon.wait_until(|seen| seen.closed_by_client == 1);
    let whole = harmonia.http().get(&item.nar_url());
    assert!(whole.status == 200 && whole.body == item.nar);
}
