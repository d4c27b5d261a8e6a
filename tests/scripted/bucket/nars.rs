//! NARs of paths that other hosts have published, by the URLs of those hosts and of clients without zstd.

use crate::operations::hidden::text as hide;
use crate::support::nar_cache::{decoded, nar_url_of, with_nar_cache};
use crate::support::narinfo::value;
use crate::support::object_server::{Fault, ObjectServer};
use crate::support::scratch;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

const OLD_NIX: (&str, &str) = ("User-Agent", "curl/7.72.0 Nix/2.3.7");

fn hosts(objects: &ObjectServer, daemon: &ScriptedDaemon) -> [Harmonia; 2] {
    let config = format!("{}{}bucket.redirect_from = \"never\"\n", daemon.config(), objects.config());
    let dir = scratch::fresh_dir().join("nars");
    [Harmonia::start(&config), Harmonia::start(&with_nar_cache(&dir, &config))]
}

/// A path of another host, with a NAR of several pieces.
fn item() -> StoreItem {
    let mut item = StoreItem::file_of(1_500_000);
    item.references = vec![item.path.clone()];
    item
}

#[test]
fn nix_without_zstd_gets_the_nar_decoded_and_resumes_it() {
    let (objects, daemon) = (ObjectServer::start(), ScriptedDaemon::start(Script::knowing_no_path()));
    let item = item();
    objects.publish(&item);
    for harmonia in hosts(&objects, &daemon) {
        let http = harmonia.http();
        let narinfo = http.get_with(&item.narinfo_url(), &[OLD_NIX]);
        assert_eq!(value(narinfo.text(), "Compression"), "none");
        let url = format!("/{}", value(narinfo.text(), "URL"));
        assert_eq!(url, item.nar_url());
        let head = http.head(&url);
        assert_eq!((head.status, head.header("content-length")), (200, Some(&*item.nar.len().to_string())));
        assert!(http.get_with(&url, &[OLD_NIX]).body == item.nar);
        for first in [0, 1, 700_000, item.nar.len() - 1] {
            let rest = http.get_with(&url, &[OLD_NIX, ("Range", &format!("bytes={first}-"))]);
            assert!(rest.status == 206 && rest.body == item.nar[first..], "{first}");
        }
        assert_eq!(http.get_with(&url, &[("Range", "bytes=5-6")]).body, item.nar[5..=6]);
        let tag = http.get(&url).header("etag").unwrap().to_owned();
        assert_eq!(http.get_with(&url, &[("If-None-Match", &tag)]).status, 304);
        let other = url.replace(&item.nar_hash_in_nix32(), &"0".repeat(52));
        assert_eq!(http.get(&other).status, 404, "it has another NAR");
    }
}

#[test]
fn a_nar_that_is_not_what_its_narinfo_says_has_no_end() {
    let (objects, daemon) = (ObjectServer::start(), ScriptedDaemon::start(Script::knowing_no_path()));
    let item = item();
    let file = objects.publish(&item);
    let mut other = item.nar.clone();
    *other.last_mut().unwrap() ^= 1;
    // A file with the name that the narinfo has, as somebody who can write to the bucket may put it.
    objects.put(&format!("nar/{file}"), zstd::encode_all(&*other, 3).unwrap());
    for harmonia in hosts(&objects, &daemon) {
        assert!(harmonia.http().get_failing(&item.nar_url(), &[]).len() < item.nar.len());
    }
}

#[test]
fn the_url_of_another_host_is_answered_with_the_file_of_the_bucket() {
    let (objects, daemon) = (ObjectServer::start(), ScriptedDaemon::start(Script::knowing_no_path()));
    let item = item();
    objects.publish(&item);
    let name = format!("{}-{}.nar.zst", item.hash_part(), item.nar_hash_in_nix32());
    for harmonia in hosts(&objects, &daemon) {
        let http = harmonia.http();
        for url in [format!("/nar/zstd1.5.7-3-h16c15/{name}"), format!("/nar/{name}")] {
            let response = http.get(&url);
            assert!(response.status == 200 && decoded(&response.body) == item.nar, "{url}");
            // Another host may have compressed the bytes that a client has.
            assert_eq!(response.header("accept-ranges"), Some("none"));
            assert_eq!(response.header("cache-control"), Some("no-store"));
            assert_eq!(http.head(&url).status, 200);
            assert_eq!(http.get_with(&url, &[("Range", "bytes=5-")]).status, 404);
        }
        objects.play(Fault::Cut(100));
        assert!(http.get(&item.nar_url()).body == item.nar);
        objects.play(Fault::Nothing);
    }
}

#[test]
fn a_download_from_a_host_that_is_gone_is_resumed_at_another_with_the_same_encoder() {
    let (objects, item) = (ObjectServer::start(), item());
    let (daemon, empty) = (ScriptedDaemon::start(item.script()), ScriptedDaemon::start(Script::knowing_no_path()));
    // Compressed otherwise than here.
    objects.publish(&item);
    let gone = Harmonia::start(&with_nar_cache(&scratch::fresh_dir().join("nars"), &daemon.config()));
    let url = nar_url_of(gone.http(), &item.narinfo_url());
    let whole = gone.http().get(&url).body;
    let [without, with] = hosts(&objects, &empty);
    for first in [1, whole.len() / 2, whole.len() - 1] {
        let rest = with.http().get_with(&url, &[("Range", &format!("bytes={first}-"))]);
        assert!(rest.status == 206 && rest.body == whole[first..], "{first}");
    }
    assert_eq!(without.http().get_with(&url, &[("Range", "bytes=5-")]).status, 404, "it compresses nothing");
    let other = url.replace("zstd1", "zstd0");
    assert_eq!(with.http().get_with(&other, &[("Range", "bytes=5-")]).status, 404, "it knows no such encoder");
    assert!(decoded(&with.http().get(&other).body) == item.nar);
}

#[test]
fn what_is_hidden_here_stays_hidden_under_any_url() {
    let (objects, daemon) = (ObjectServer::start(), ScriptedDaemon::start(Script::knowing_no_path()));
    let (hidden, other) = (item(), StoreItem { path: format!("/nix/store/{:032}-other", 7), ..StoreItem::file(b"x") });
    let [file, other_file] = [&hidden, &other].map(|item| format!("/nar/{}", objects.publish(item)));
    let (state, socket) = (scratch::fresh_dir(), scratch::fresh_dir().join("admin"));
    let config = format!(
        "{}{}state_dir = \"{}\"\nadmin_socket = \"{}\"\n",
        daemon.config(),
        objects.config(),
        state.display(),
        socket.display()
    );
    let harmonia = Harmonia::start(&config);
    let http = harmonia.http();
    let urls = [hidden.narinfo_url(), hidden.nar_url(), file];
    assert!(urls.iter().all(|url| http.get(url).status == 200));
    hide(&socket, &["hide", &hidden.path]);
    assert!(urls.iter().all(|url| http.get(url).status == 404));
    // It may be of the path that is hidden, as long as no narinfo was read that names it.
    assert_eq!(http.get(&other_file).status, 404);
    assert_eq!((http.get(&other.narinfo_url()).status, http.get(&other_file).status), (200, 200));
    hide(&socket, &["unhide", &hidden.path]);
    assert!(urls.iter().all(|url| http.get(url).status == 200));
}
