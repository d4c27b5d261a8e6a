//! Narinfos of paths that another host has published.

use std::fs;
use std::os::unix::fs::symlink;

use super::other_host::{OtherHost, item, until};
use crate::operations::hidden::{seen, text};
use crate::support::http::Response;
use crate::support::keys::THIRD;
use crate::support::metrics;
use crate::support::narinfo::{value, values};
use crate::support::scratch;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

const OLD_NIX: (&str, &str) = ("User-Agent", "curl/7.72.0 Nix/2.3.16");

fn body(response: &Response) -> &str {
    assert_eq!(response.status, 200, "{:?}", String::from_utf8_lossy(&response.body));
    std::str::from_utf8(&response.body).unwrap()
}

/// A server whose nix-daemon knows no path.
fn server(table: &str) -> (ScriptedDaemon, Harmonia) {
    let daemon = ScriptedDaemon::start(Script::knowing_no_path());
    let harmonia = Harmonia::start(&format!("{}{table}", daemon.config()));
    (daemon, harmonia)
}

#[test]
fn a_path_of_another_host_is_served_as_its_host_has_signed_it() {
    let (other, own, theirs) = (OtherHost::new(), item(1, &[]), item(2, &[]));
    other.publish(&[&theirs]);
    let daemon = ScriptedDaemon::start(own.script());
    let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), other.table()));
    let http = harmonia.http();
    let narinfo = http.get(&theirs.narinfo_url());
    let text = body(&narinfo);
    let stored = fs::read_to_string(other.bucket.join(&theirs.narinfo_url()[1..])).unwrap();
    assert_eq!(text, stored);
    assert_eq!(narinfo.header("cache-control"), Some("public, max-age=3600"));
    assert_eq!(http.head(&theirs.narinfo_url()).status, 200);
    let json: serde_json::Value =
        serde_json::from_slice(&http.get(&format!("{}?json", theirs.narinfo_url())).body).unwrap();
    assert_eq!(json["url"], value(&stored, "URL"));
    // This host's own are as ever, and so is what nobody has.
    let mine = http.get(&own.narinfo_url());
    assert_eq!(value(body(&mine), "URL"), &own.nar_url()[1..]);
    let absent = http.get(&item(3, &[]).narinfo_url());
    assert_eq!((absent.status, absent.header("cache-control")), (404, Some("no-store")));
}

#[test]
fn a_nix_that_knows_no_zstd_is_sent_to_the_plain_nar() {
    let (other, theirs) = (OtherHost::new(), item(2, &[]));
    other.publish(&[&theirs]);
    let (_daemon, harmonia) = server(&other.table());
    let narinfo = harmonia.http().get_with(&theirs.narinfo_url(), &[OLD_NIX]);
    let text = body(&narinfo);
    let hash = format!("sha256:{}", theirs.nar_hash_in_nix32());
    assert_eq!((value(text, "URL"), value(text, "Compression")), (&theirs.nar_url()[1..], "none"));
    assert_eq!((value(text, "FileHash"), value(text, "FileSize")), (&*hash, &*theirs.nar_size.to_string()));
    assert_eq!(values(text, "Sig").len(), 1);
    assert_eq!(narinfo.header("vary"), Some("accept-encoding, user-agent"));
}

#[test]
fn what_no_trusted_key_has_signed_looks_like_what_is_not_there() {
    let (other, forged, absent) = (OtherHost::new(), item(2, &[]), item(3, &[]));
    other.put_signed(&forged, &THIRD);
    other.index(&[&forged]);
    let (_daemon, harmonia) = server(&other.table());
    let [forged, absent] = [forged, absent].map(|item| seen(&harmonia.http().get(&item.narinfo_url())));
    assert_eq!(forged, absent);
    harmonia.wait_for_log(".narinfo in the bucket is not served: no trusted key has signed it");
    metrics::await_value(harmonia.http(), "harmonia_bucket_lookups_total{result=\"rejected\"}", 1.0);
}

#[test]
fn without_read_nothing_of_others_is_served() {
    let (other, theirs) = (OtherHost::new(), item(2, &[]));
    other.publish(&[&theirs]);
    let (_daemon, harmonia) = server(&format!("{}read = false\n", other.table()));
    assert_eq!(harmonia.http().get(&theirs.narinfo_url()).status, 404);
}

#[test]
fn what_is_published_later_is_found_without_a_restart() {
    let (other, theirs) = (OtherHost::new(), item(2, &[]));
    other.publish(&[&item(1, &[])]);
    let (_daemon, harmonia) = server(&other.table());
    let http = harmonia.http();
    assert_eq!(http.get(&theirs.narinfo_url()).status, 404);
    other.publish(&[&theirs]);
    until(|| http.get(&theirs.narinfo_url()).status == 200);
}

#[test]
fn what_is_hidden_here_stays_hidden_and_so_does_what_refers_to_it() {
    let other = OtherHost::new();
    let first = item(1, &[]);
    let second = item(2, &[&first]);
    let third = item(3, &[&second]);
    let unrelated = item(4, &[]);
    other.publish(&[&first, &second, &third, &unrelated]);
    let (socket, state) = (scratch::fresh_dir().join("admin.sock"), scratch::fresh_dir());
    let daemon = ScriptedDaemon::start(Script::knowing_no_path());
    let keys = format!("{}admin_socket = {socket:?}\nstate_dir = {state:?}\n", daemon.config());
    let harmonia = Harmonia::start(&format!("{keys}{}", other.table()));
    let status = || [&first, &second, &third, &unrelated].map(|item| harmonia.http().get(&item.narinfo_url()).status);
    assert_eq!(status(), [200; 4]);
    text(&socket, &["hide", &first.path]);
    assert_eq!(status(), [404, 200, 200, 200]);
    text(&socket, &["hide", "--referrers", &first.path]);
    assert_eq!(status(), [404, 404, 404, 200]);
    let absent = harmonia.http().get(&item(9, &[]).narinfo_url());
    assert_eq!(seen(&harmonia.http().get(&third.narinfo_url())), seen(&absent));
    text(&socket, &["unhide", &first.path]);
    assert_eq!(status(), [200; 4]);
}

#[test]
fn a_client_that_is_limited_to_views_sees_nothing_of_the_bucket() {
    let (other, theirs) = (OtherHost::new(), item(2, &[]));
    other.publish(&[&theirs]);
    let roots = scratch::fresh_dir();
    symlink(&theirs.path, roots.join("root")).unwrap();
    let access =
        "[access]\nanonymous = []\n[[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\nview = \"public\"\n";
    let views = format!("[views.public]\nroots = [\"{}/*\"]\n", roots.display());
    let (_daemon, harmonia) = server(&format!("{}{access}{views}", other.table()));
    let [theirs, absent] = [theirs, item(3, &[])].map(|item| seen(&harmonia.http().get(&item.narinfo_url())));
    assert_eq!((theirs.0, &theirs), (404, &absent));
}

#[test]
fn while_nix_daemon_is_away_what_others_have_is_served() {
    let (other, theirs, nobodys) = (OtherHost::new(), item(2, &[]), item(3, &[]));
    other.publish(&[&theirs]);
    let socket = scratch::fresh_dir().join("nowhere");
    let harmonia = Harmonia::start(&format!("daemon_socket = {socket:?}\n{}", other.table()));
    assert_eq!(harmonia.http().get(&theirs.narinfo_url()).status, 200);
    // It may be in the store of this host.
    assert_eq!(harmonia.http().get(&nobodys.narinfo_url()).status, 502);
}

#[test]
fn while_the_bucket_is_unreachable_the_operator_decides_between_503_and_404() {
    for (keys, status, retry) in [("", 503, Some("1")), ("unreachable = \"miss\"\n", 404, None)] {
        let own: StoreItem = item(1, &[]);
        let daemon = ScriptedDaemon::start(own.script());
        let bucket =
            "[bucket]\nurl = \"s3://cache\"\nhost = \"own\"\nendpoint = \"http://127.0.0.1:1\"\nallow_http = true\n";
        let harmonia = Harmonia::start(&format!("{}{bucket}{keys}", daemon.config()));
        let response = harmonia.http().get(&item(2, &[]).narinfo_url());
        assert_eq!((response.status, response.header("retry-after")), (status, retry));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(harmonia.http().get(&own.narinfo_url()).status, 200);
    }
}

#[test]
fn a_reference_that_a_client_was_told_of_is_no_404_while_it_is_on_its_way() {
    let other = OtherHost::new();
    let reference = item(1, &[]);
    let theirs = item(2, &[&reference]);
    // The index has one of them only, and of the other nothing is there yet.
    other.put_signed(&theirs, &crate::support::keys::FOREIGN);
    other.index(&[&theirs]);
    let (_daemon, harmonia) = server(&other.table());
    assert_eq!(harmonia.http().get(&theirs.narinfo_url()).status, 200);
    let early = harmonia.http().get(&reference.narinfo_url());
    assert_eq!((early.status, early.header("retry-after")), (503, Some("1")));
    other.put_signed(&reference, &crate::support::keys::FOREIGN);
    assert_eq!(harmonia.http().get(&reference.narinfo_url()).status, 200);
    // What a client knows is served for a while after it was deleted.
    other.delete(&theirs.narinfo_url()[1..]);
    assert_eq!(harmonia.http().get(&theirs.narinfo_url()).status, 200);
}

#[test]
fn a_path_that_this_host_has_and_does_not_trust_is_served_as_another_host_has_signed_it() {
    let (other, theirs, untrusted) = (OtherHost::new(), item(2, &[]), item(3, &[]));
    other.publish(&[&theirs]);
    let items = [theirs.clone(), untrusted.clone()];
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        StoreItem::reply_among(&items, query).unwrap_or_else(|| items[0].reply(query))
    }));
    let keys = "sign = \"trusted\"\nserve_untrusted = false\n";
    let harmonia = Harmonia::start(&format!("{}{keys}{}", daemon.config(), other.table()));
    assert!(body(&harmonia.http().get(&theirs.narinfo_url())).contains("\nSig: elsewhere.test-1:"));
    assert_eq!(harmonia.http().get(&untrusted.narinfo_url()).status, 404);
}
