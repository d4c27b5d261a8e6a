//! From an uploaded NAR and its narinfo to a valid path, and every reason against it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Cache, nar_target};
use crate::support::http::Response;
use crate::support::log_file::events;
use crate::support::scripted_daemon::{Addition, GcOperation, Query, Reply, Script, protect};
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const MISSING: &str = "/nix/store/00000000000000000000000000000000-missing";

pub(super) fn absent(query: &Query) -> Reply {
    match query {
        Query::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
        Query::PathInfo(_) => Wire::new().number(LAST).number(0).into(),
        other => panic!("unexpected {other:?}"),
    }
}

/// Returns a daemon that has no path but this one, once it was added.
fn accepting(item: &StoreItem) -> Script {
    let (is_valid, item) = (Arc::new(AtomicBool::new(false)), item.clone());
    let added = Arc::clone(&is_valid);
    let expected = item.clone();
    let reply = move |query: &Query| if is_valid.load(Ordering::SeqCst) { item.reply(query) } else { absent(query) };
    Script::replying(reply).adding(move |addition: &Addition| {
        assert_eq!((&addition.path, &addition.references), (&expected.path, &expected.references));
        assert!(addition.nar == expected.nar && addition.checks_signatures && addition.signatures.is_empty());
        added.store(true, Ordering::SeqCst);
        Wire::new().number(LAST).into()
    })
}

/// Returns a daemon that answers the addition like this.
fn answering(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Script {
    Script::replying(absent).adding(move |_| reply())
}

pub(super) fn target(file: &[u8]) -> String {
    nar_target(file).replace(".xz", "")
}

pub(super) fn narinfo(item: &StoreItem, target: &str, compression: &str) -> String {
    let references: Vec<_> = item.references.iter().map(|path| path.strip_prefix("/nix/store/").unwrap()).collect();
    format!(
        "StorePath: {}\nURL: {}\nCompression: {compression}\nNarHash: sha256:{}\nNarSize: {}\nReferences: {}\n",
        item.path,
        target.strip_prefix('/').unwrap(),
        item.nar_hash_in_nix32(),
        item.nar_size,
        references.join(" ")
    )
}

/// Pushes a NAR without compression, with the narinfo of this item.
pub(super) fn push(cache: &Cache, item: &StoreItem) -> Response {
    let target = target(&item.nar);
    assert_eq!(cache.put(&target, &item.nar).status, 200);
    cache.put(&item.narinfo_url(), narinfo(item, &target, "none").as_bytes())
}

#[test]
fn a_path_is_added_kept_and_recorded() {
    let cache = Cache::start("");
    let item = StoreItem::file_of(1 << 20);
    cache.daemon.play(accepting(&item));
    let response = push(&cache, &item);
    assert_eq!((response.status, response.text()), (200, "OK\n"));
    assert_eq!(cache.spooled(), [""; 0]);
    assert_eq!(fs::read_link(cache.state.join("pushed").join(item.hash_part())).unwrap(), Path::new(&item.path));
    assert_eq!(cache.harmonia.http().get(&item.narinfo_url()).status, 200);
    // Once more, without the NAR.
    assert_eq!(cache.put(&item.narinfo_url(), narinfo(&item, &target(&item.nar), "none").as_bytes()).status, 200);

    let events = events(&cache.audit_log, 4);
    let field = |at: usize, name: &str| events[at][name].as_str().unwrap_or_default();
    assert_eq!((field(1, "event"), field(2, "event"), field(3, "event")), ("push", "push", "push"));
    assert_eq!(events[1]["bytes"], item.nar.len());
    assert!(events[2].to_string().contains(&item.path), "{}", events[2]);
}

#[test]
fn what_is_wrong_with_a_nar_is_said_and_nothing_is_added() {
    let cache = Cache::start("");
    cache.daemon.play(answering(|| panic!("a NAR that is wrong arrived whole")));
    let right = StoreItem::file_of(300_000);
    let with = |change: &dyn Fn(&mut StoreItem)| {
        let mut item = right.clone();
        change(&mut item);
        item
    };
    let mut upwards = StoreItem::with_nar(
        Wire::new()
            .strings_of(&["nix-archive-1", "(", "type", "directory", "entry", "(", "name", "..", "node", "("])
            .strings_of(&["type", "regular", "contents", "x", ")", ")", ")"])
            .done(),
    );
    upwards.path.clone_from(&right.path);
    for (item, line) in [
        (with(&|it| it.nar_hash = "00".repeat(32)), "but NarHash is"),
        (with(&|it| it.nar_size -= 8), "more than the"),
        (with(&|it| it.nar_size += 8), "fewer than the"),
        (upwards, "malformed"),
        (StoreItem::with_nar(b"not a NAR at all".to_vec()), "malformed"),
    ] {
        let refused = push(&cache, &item);
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.text().contains(line) && refused.text().lines().count() == 1, "{}", refused.text());
        assert_eq!(cache.spooled(), [""; 0], "{line}");
    }
    // A bomb, a file that is not compressed, and one of another size than the narinfo says.
    let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
    for (file, fields, line) in
        [(&bomb, "", "malformed"), (&right.nar, "", "cannot decode"), (&bomb, "FileSize: 1\n", "FileSize is 1")]
    {
        let target = format!("{}.zst", target(file));
        assert_eq!(cache.put(&target, file).status, 200);
        let refused = cache.put(&right.narinfo_url(), (narinfo(&right, &target, "zstd") + fields).as_bytes());
        assert!(refused.status == 422 && refused.text().contains(line), "{}: {}", refused.status, refused.text());
    }
    let absent = cache.put(&right.narinfo_url(), narinfo(&right, &target(b"never"), "none").as_bytes());
    assert!(absent.status == 409 && absent.text().contains("has not been uploaded"), "{}", absent.text());
    assert!(!cache.state.join("pushed").exists());
}

#[test]
fn what_nix_daemon_says_becomes_a_status_and_a_line() {
    let cache = Cache::start("");
    let item = StoreItem::file_of(1000);
    let path = &item.path;
    let error = |message: &str| {
        let message = message.to_owned();
        answering(move || Wire::new().error(&message).into())
    };
    for (script, status, line) in [
        (error("cannot add path because it lacks a signature by a trusted key"), 403, "sign it (nix store sign)"),
        (error("hash mismatch importing path"), 422, "hash mismatch"),
        (error("writing to file: No space left on device"), 503, "make room"),
        (answering(|| Reply::then_disconnect(Vec::new())), 503, "push again later"),
        (answering(|| Wire::new().number(0).into()), 503, "push again later"),
        // It calls the path added, and then not valid.
        (answering(|| Wire::new().number(LAST).into()), 503, "push again later"),
    ] {
        cache.daemon.play(script);
        let refused = push(&cache, &item);
        assert!(refused.status == status && refused.text().contains(line), "{}: {}", refused.status, refused.text());
        assert!(refused.text().contains(path.rsplit('/').next().unwrap()), "{}", refused.text());
        assert_eq!(refused.text().lines().count(), 1);
        // What may succeed with the same file can be tried again.
        assert_eq!(cache.spooled().len(), usize::from(status == 503), "{line}");
    }
    cache.daemon.play(accepting(&item));
    assert_eq!(cache.put(&item.narinfo_url(), narinfo(&item, &target(&item.nar), "none").as_bytes()).status, 200);
}

#[test]
fn a_reference_that_is_missing_is_named() {
    let cache = Cache::start("");
    let mut item = StoreItem::file_of(1000);
    item.references = vec![MISSING.to_owned(), item.path.clone()];
    cache.daemon.play(answering(|| panic!("added")).protecting(|operation| match operation {
        GcOperation::StillValid(_) => Wire::new().number(LAST).number(0).into(),
        other => protect(other),
    }));
    let refused = push(&cache, &item);
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("0000-missing") && refused.text().contains("push that path first"));
    let [.., event] = &events(&cache.audit_log, 3)[..] else { panic!("no event") };
    assert_eq!((&event["event"], &event["status"]), (&"push_refused".into(), &409.into()), "{event}");
}

#[test]
fn a_valid_path_is_never_replaced() {
    let cache = Cache::start("");
    let (valid, other) = (StoreItem::file_of(1000), StoreItem::file_of(2000));
    cache.daemon.play(valid.script());
    let refused = push(&cache, &other);
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("a valid path is never replaced"), "{}", refused.text());
    assert_eq!(push(&cache, &valid).status, 200);
}
