//! Store of a few paths in a scripted daemon behind one server, shared by the tests that change neither.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use crate::support::http::Http;
use crate::support::keys;
use crate::support::narinfo::value;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, noise};
use crate::support::wire::Wire;

/// Size of `large`, in bytes: more than any buffer between server and client, and too large for a content coding.
const LARGE: usize = 20 << 20;

/// Store paths by name.
static ITEMS: LazyLock<BTreeMap<&str, StoreItem>> = LazyLock::new(|| {
    let references: Vec<_> = (0..300).map(|n| format!("/nix/store/{:032}-leaf-{n}", 1000 + n)).collect();
    let nars = [
        ("regular", StoreItem::file(b"a regular file\n")),
        ("executable", tree(&["type", "regular", "executable", "", "contents", "#!/bin/sh\n"])),
        ("empty-file", StoreItem::file(b"")),
        ("symlink", tree(&["type", "symlink", "target", "not/in the store"])),
        ("empty-directory", tree(&["type", "directory"])),
        ("deep-tree", StoreItem::with_nar(deep_tree(60).done())),
        ("odd-entries", StoreItem::with_nar(odd_entries().done())),
        ("odd-name", StoreItem::file(b"of an odd name\n")),
        ("many-references", StoreItem { references, ..StoreItem::file(b"of many references\n") }),
        ("large", StoreItem::file(&noise(LARGE))),
    ];
    let with_path = |(number, (name, item)): (usize, (&'static str, StoreItem))| {
        let path_name = if name == "odd-name" { "+?odd=._-" } else { name };
        (name, StoreItem { path: format!("/nix/store/{:032}-{path_name}", number + 1), ..item })
    };
    nars.into_iter().enumerate().map(with_path).collect()
});

static DAEMON: LazyLock<ScriptedDaemon> = LazyLock::new(|| {
    ScriptedDaemon::start(Script::replying(|query| {
        let of_this = |item: &&StoreItem| match query {
            Query::PathFromHashPart(hash) => hash == item.hash_part(),
            Query::PathInfo(path) | Query::Nar(path) => *path == item.path,
            _ => false,
        };
        ITEMS.values().find(of_this).unwrap_or(&ITEMS["regular"]).reply(query)
    }))
});

fn tree(strings: &[&str]) -> StoreItem {
    StoreItem::with_nar(Wire::new().strings_of(&["nix-archive-1", "("]).strings_of(strings).string(")").done())
}

fn deep_tree(depth: usize) -> Wire {
    let mut nar = Wire::new().strings_of(&["nix-archive-1", "("]);
    for _ in 0..depth {
        nar = nar.strings_of(&["type", "directory", "entry", "(", "name", "level", "node", "("]);
    }
    nar = nar.strings_of(&["type", "regular", "contents", "deep\n"]);
    (0..depth).fold(nar, |nar, _| nar.strings_of(&[")", ")"])).string(")")
}

/// Returns a directory with names that need escaping, one of which is not UTF-8.
fn odd_entries() -> Wire {
    let names: [&[u8]; 7] = [
        b" leading space",
        b"\"quotes\"",
        b"-dash",
        b"back\\slash",
        b"latin-1 \xe9",
        b"line\nfeed",
        "日本語".as_bytes(),
    ];
    let nar = Wire::new().strings_of(&["nix-archive-1", "(", "type", "directory"]);
    let entry = |nar: Wire, name: &[u8]| {
        let nar = nar.strings_of(&["entry", "(", "name"]).string(name);
        nar.strings_of(&["node", "(", "type", "regular", "contents", "", ")", ")"])
    };
    names.into_iter().fold(nar, entry).string(")")
}

/// Returns the path of this name.
pub(crate) fn item(name: &str) -> &'static StoreItem {
    ITEMS.get(name).unwrap_or_else(|| panic!("there is no {name} in the sample store"))
}

/// Returns the lines of a configuration that name the daemon and sign with [`keys::OURS`].
pub(crate) fn config() -> String {
    format!("{}sign_key_paths = [\"{}\"]\n", DAEMON.config(), keys::OURS.secret.display())
}

/// Returns the socket of the daemon.
pub(crate) fn socket() -> &'static Path {
    &DAEMON.socket
}

/// Returns the shared server, started at the first call. It ends with the test binary.
pub(crate) fn server() -> &'static Harmonia {
    static SERVER: LazyLock<Harmonia> = LazyLock::new(|| Harmonia::start(&config()));
    &SERVER
}

/// Returns a client of the server.
pub(crate) fn http() -> Http {
    server().http()
}

/// Returns the URL of the narinfo of the path of this name.
pub(crate) fn narinfo_url(name: &str) -> String {
    item(name).narinfo_url()
}

/// Requests the narinfo of the path of this name.
pub(crate) fn narinfo(name: &str) -> String {
    let response = http().get(&narinfo_url(name));
    assert_eq!(response.status, 200, "{name}");
    response.text().to_owned()
}

/// Returns the URL of the NAR of the path of this name, with a leading slash.
pub(crate) fn nar_url(name: &str) -> String {
    format!("/{}", value(&narinfo(name), "URL"))
}
