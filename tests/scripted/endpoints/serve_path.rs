//! `/serve/…`: the files of store paths, and protection from path traversal and active content.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::http::{Http, Response};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

const OTHER: &str = "11111111111111111111111111111111-other";

const NOT_VALID: &str = "22222222222222222222222222222222-not-valid";

/// Server on a store of two valid paths and an invalid one.
struct Store {
    real: PathBuf,
    item: StoreItem,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
}

impl Store {
    fn new() -> Self {
        let real = scratch::fresh_dir();
        let item = StoreItem::file(b"a");
        let mut other = StoreItem::file(b"b");
        other.path = format!("/nix/store/{OTHER}");
        let items = [item.clone(), other];
        let daemon = ScriptedDaemon::start(Script::replying(move |query| {
            let asked = |item: &StoreItem| match query {
                Query::PathFromHashPart(hash) => hash == item.hash_part(),
                Query::PathInfo(path) | Query::Nar(path) => *path == item.path,
                Query::AllPaths | Query::Realisation(_) | Query::BuildTrace(..) => false,
            };
            items.iter().find(|item| asked(item)).unwrap_or(&items[0]).reply(query)
        }));
        let harmonia = Harmonia::start(&format!("{}real_nix_store = \"{}\"\n", daemon.config(), real.display()));
        Self { real, item, daemon, harmonia }
    }

    /// Returns the root of the first path, a directory.
    fn root(&self) -> PathBuf {
        let root = self.real.join(self.item.path.strip_prefix("/nix/store/").unwrap());
        fs::create_dir_all(&root).unwrap();
        root
    }

    fn http(&self) -> Http {
        self.harmonia.http()
    }

    fn url(&self, below: &str) -> String {
        format!("/serve/{}{below}", self.item.hash_part())
    }

    fn get(&self, below: &str) -> Response {
        let response = self.http().get(&self.url(below));
        assert_harmless(&response);
        response
    }
}

fn assert_harmless(response: &Response) {
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    let policy = response.header("content-security-policy").unwrap();
    assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("allow-scripts") && !policy.contains("allow-same-origin"), "{policy}");
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
}

#[test]
fn a_file_has_its_type_length_ranges_and_a_strong_tag() {
    let store = Store::new();
    fs::create_dir(store.root().join("doc")).unwrap();
    fs::write(store.root().join("doc/a b.txt"), "0123456789").unwrap();
    let below = "/doc/a%20b.txt";
    let whole = store.get(below);
    assert_eq!((whole.status, whole.text()), (200, "0123456789"));
    assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(whole.header("content-length"), Some("10"));
    let tag = whole.header("etag").unwrap();
    assert!(tag.starts_with('"'), "{tag}");
    let url = store.url(below);
    let part = store.http().get_with(&url, &[("Range", "bytes=-3"), ("If-Range", tag)]);
    assert_eq!((part.status, part.text(), part.header("content-range")), (206, "789", Some("bytes 7-9/10")));
    assert_eq!(part.header("content-type"), Some("text/plain; charset=utf-8"));
    let held = store.http().get_with(&url, &[("If-None-Match", tag)]);
    assert_eq!((held.status, held.header("etag")), (304, Some(tag)));
    let asked = store.http().head(&url);
    assert_eq!((asked.status, asked.header("content-length"), asked.header("etag")), (200, Some("10"), Some(tag)));
    assert_eq!(store.http().get_with(&url, &[("Range", "bytes=11-")]).status, 416);
    assert_eq!(store.get("/doc/a%20b.txt/").status, 404);
    assert_eq!(store.get("/doc/a%20b.txt/x").status, 404);
    fs::write(store.root().join("program"), "\x7fELF").unwrap();
    assert_eq!(store.get("/program").header("content-type"), Some("application/octet-stream"));
    fs::write(store.root().join("empty.html"), "").unwrap();
    assert_eq!((store.get("/empty.html").status, store.get("/empty.html").body.len()), (200, 0));
}

#[test]
fn a_path_that_is_a_file_is_that_file() {
    let store = Store::new();
    fs::write(store.real.join(store.item.path.strip_prefix("/nix/store/").unwrap()), "contents").unwrap();
    assert_eq!((store.get("").status, store.get("").text()), (200, "contents"));
    assert_eq!((store.get("/").status, store.get("/x").status), (404, 404));
}

#[test]
fn a_directory_without_a_trailing_slash_is_redirected_by_a_relative_location() {
    let store = Store::new();
    fs::create_dir_all(store.root().join("a:b<c/empty")).unwrap();
    for (below, location) in [
        ("", format!("./{}/", store.item.hash_part())),
        ("/a:b%3Cc", "./a%3Ab%3Cc/".to_owned()),
        ("//a:b%3Cc//empty", "./empty/".to_owned()),
    ] {
        let response = store.get(below);
        assert_eq!((response.status, response.header("location")), (301, Some(&*location)), "{below}");
        assert_eq!(store.get(&format!("{below}/")).status, 200, "{below}");
    }
}

#[test]
fn a_directory_page_shows_names_sizes_and_the_way_up_and_nothing_in_a_name_is_markup() {
    let store = Store::new();
    let dir = store.root().join("sub");
    fs::create_dir_all(dir.join("deeper")).unwrap();
    fs::write(dir.join("file"), vec![0; 2048]).unwrap();
    let hostile = "<script>alert(1)</script>\"'&";
    // No slash may be in a name.
    let hostile = hostile.replace('/', "\u{2215}");
    fs::write(dir.join(&hostile), "hostile").unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"javascript:alert(1)\xff\n")), "colon").unwrap();
    symlink("\"><img src=x onerror=alert(1)>", dir.join("link")).unwrap();
    let page = store.get("/sub/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();
    assert!(text.contains("<a href=\"./deeper/\">") && text.contains(">2.0 KiB<"), "{text}");
    assert!(text.contains("<a href=\"../\">"), "{text}");
    for markup in ["<script", "<img", "href=\"javascript", "=\"><"] {
        assert!(!text.contains(markup), "{text}");
    }
    // Every link of the page leads to what it names.
    let links: Vec<_> = text.split("href=\"./").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 5, "{text}");
    for link in links {
        let status = store.get(&format!("/sub/{link}")).status;
        assert_eq!(status, if link == "link" { 404 } else { 200 }, "{link}");
    }
    let tag = page.header("etag").unwrap();
    assert_eq!(store.http().get_with(&store.url("/sub/"), &[("If-None-Match", tag)]).status, 304);
}

#[test]
fn a_directory_with_an_index_is_that_page_in_a_sandbox() {
    let store = Store::new();
    fs::write(store.root().join("index.html"), "<script>fetch('/')</script>").unwrap();
    let response = store.get("/");
    assert_eq!((response.status, response.text()), (200, "<script>fetch('/')</script>"));
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    // A link out of the path is not followed.
    fs::create_dir(store.root().join("sub")).unwrap();
    symlink("/etc/passwd", store.root().join("sub/index.html")).unwrap();
    assert!(store.get("/sub/").text().contains("index.html"));
}

#[test]
fn links_are_followed_within_the_store() {
    let store = Store::new();
    let root = store.root();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/file"), "here").unwrap();
    fs::create_dir_all(store.real.join(OTHER).join("sub")).unwrap();
    fs::write(store.real.join(OTHER).join("sub/file"), "there").unwrap();
    for (name, target) in [
        ("plain", "a/file"),
        ("dots", "./a//b/../file"),
        ("chain", "plain"),
        ("dir", "a"),
        ("absolute", "/nix/store/11111111111111111111111111111111-other/sub/file"),
        ("sibling", "../11111111111111111111111111111111-other/sub"),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    for (below, text) in [
        ("/plain", "here"),
        ("/dots", "here"),
        ("/chain", "here"),
        ("/dir/file", "here"),
        ("/absolute", "there"),
        ("/sibling/file", "there"),
    ] {
        let response = store.get(below);
        assert_eq!((response.status, response.text()), (200, text), "{below}");
    }
    assert_eq!(store.get("/chain").header("etag"), store.get("/a/file").header("etag"), "the same bytes");
    assert_eq!(store.get("/sibling").status, 301);
    assert!(store.get("/sibling/").text().contains("./file"));
}

#[test]
fn links_out_of_the_store_to_invalid_paths_and_in_loops_are_404() {
    let store = Store::new();
    let root = store.root();
    fs::create_dir(root.join("a")).unwrap();
    fs::write(store.real.join("loose"), "secret").unwrap();
    fs::write(store.real.join(NOT_VALID), "secret").unwrap();
    let outside = scratch::fresh_dir().join("file");
    fs::write(&outside, "secret").unwrap();
    let real = store.real.join(NOT_VALID);
    let up = "../".repeat(40);
    for (name, target) in [
        ("passwd", "/etc/passwd"),
        ("outside", outside.to_str().unwrap()),
        ("real", real.to_str().unwrap()),
        ("up", &*format!("{up}etc/passwd")),
        ("up-and-in", &*format!("{up}nix/store/{OTHER}")),
        ("dots", "/nix/store/../../etc/passwd"),
        ("proc", "/proc/self/environ"),
        ("store", "/nix/store"),
        ("store-slash", "/nix/store/"),
        ("parent", ".."),
        ("loose", "../loose"),
        ("not-valid", "/nix/store/22222222222222222222222222222222-not-valid"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("loop-a", "loop-b"),
        ("loop-b", "a/../loop-a"),
        ("loop-grows", "loop-grows/x/x/x/x"),
    ] {
        symlink(target, root.join(name)).unwrap();
        for below in [format!("/{name}"), format!("/{name}/")] {
            let response = store.get(&below);
            assert_eq!(
                (response.status, response.text()),
                (404, "this cache has no such file in this store path\n"),
                "{below}"
            );
        }
    }
    // As many links as Linux follows, and one more.
    fs::write(root.join("chain-0"), "end").unwrap();
    for n in 1..=41 {
        symlink(format!("chain-{}", n - 1), root.join(format!("chain-{n}"))).unwrap();
    }
    assert_eq!((store.get("/chain-40").text(), store.get("/chain-41").status), ("end", 404));
}

#[test]
fn what_is_neither_file_nor_directory_is_404_and_nobody_waits_for_it() {
    let store = Store::new();
    fifo(&store.root().join("fifo"));
    let _listener = std::os::unix::net::UnixListener::bind(store.root().join("socket")).unwrap();
    // Only root may make a device.
    let device = store.root().join("null");
    let has_device = mknodat(CWD, &device, FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).is_ok();
    assert!(has_device || !rustix::process::geteuid().is_root());
    for name in ["fifo", "socket", "null", "fifo/x"] {
        assert_eq!(store.get(&format!("/{name}")).status, 404, "{name}");
    }
    assert!(store.get("/").text().contains("<tr><td><bdi>fifo</bdi></td>"));
}

#[test]
fn a_directory_of_50_000_entries_is_shown_and_of_more_the_page_says_so() {
    let store = Store::new();
    for n in 0..50_000 {
        fs::write(store.root().join(format!("{n:05}")), "").unwrap();
    }
    let text = store.get("/").text().to_owned();
    let names: Vec<_> = text.split("<bdi>").skip(2).map(|rest| rest.split('<').next().unwrap()).collect();
    assert!(names.len() == 50_000 && names.is_sorted() && names[49_999] == "49999", "{}", names.len());
    assert!(!text.contains("are shown"));
    fs::write(store.root().join("one-more"), "").unwrap();
    let text = store.get("/").text().to_owned();
    assert!(text.contains("Only 50000 of its entries are shown.") && text.matches("<tr>").count() == 50_001);
}

#[test]
fn dot_segments_encoded_slashes_and_nul_are_a_404_without_a_query() {
    let store = Store::new();
    fs::write(store.root().join("file"), "x").unwrap();
    let long = format!("/{}", "x".repeat(256));
    for below in [
        "/..",
        "/../",
        "/%2e%2e/",
        "/%2E./x",
        "/./file",
        "/a/../file",
        "/..%2ffile",
        "/a%2ffile",
        "/file%00",
        "x",
        &long,
    ] {
        assert_eq!(store.http().get(&store.url(below)).status, 404, "{below}");
    }
    for url in ["/serve", "/serve/", "/serve/..", "/serve/x/y", "/serve/%2e%2e/etc/passwd"] {
        assert_eq!(store.http().get(url).status, 404, "{url}");
    }
    assert_eq!(store.daemon.seen().queries, []);
}

#[test]
fn what_the_daemon_does_not_call_valid_is_404_whatever_lies_on_disk() {
    let store = Store::new();
    fs::write(store.real.join(NOT_VALID), "secret").unwrap();
    let response = store.http().get("/serve/22222222222222222222222222222222");
    assert_eq!(response.status, 404);
    assert_harmless(&response);
    // And what it calls valid is 404 where it cannot be seen.
    assert_eq!(store.get("").status, 404);
}
