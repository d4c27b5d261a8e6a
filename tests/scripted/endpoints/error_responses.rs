//! Responses with 404, 502 and 503: clients get one line without details, and metrics tell the reason.

use crate::support::http::Response;
use crate::support::metrics::{await_that, metrics, value};
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const NO_PATH: &str = "this cache has no store path with this hash\n";
/// Digit of a hash part that no path has.
const ABSENT: &str = "1";

fn count(harmonia: &Harmonia, status: u16, reason: &str) -> Option<f64> {
    let series = format!("harmonia_http_error_responses_total{{status=\"{status}\",reason=\"{reason}\"}}");
    value(&metrics(harmonia.http()), &series)
}

/// Returns a response without its date.
fn seen(response: &Response) -> (u16, Vec<(String, String)>, &[u8]) {
    let headers = response.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date"));
    (response.status, headers.cloned().collect(), &response.body)
}

/// Returns all URLs about a path.
fn urls(item: &StoreItem, hash: &str) -> Vec<String> {
    let nar = item.nar_hash_in_nix32();
    ["/{}.narinfo", "/{}.narinfo?json", "/{}.ls", "/nar/{}-NAR.nar", "/nar/{}-NAR.nar.zst", "/serve/{}/", "/serve/{}/x"]
        .map(|url| url.replace("{}", hash).replace("NAR", &nar))
        .into()
}

fn looks_absent(harmonia: &Harmonia, item: &StoreItem, case: &str) {
    let absent = ABSENT.repeat(32);
    for (url, other) in urls(item, item.hash_part()).into_iter().zip(urls(item, &absent)) {
        let (hidden, absent) = (harmonia.http().get(&url), harmonia.http().get(&other));
        assert_eq!(seen(&hidden), seen(&absent), "{case}: {url}");
        assert_eq!((hidden.status, hidden.text()), (404, NO_PATH), "{case}: {url}");
        assert_eq!(harmonia.http().head(&url).status, 404);
    }
}

#[test]
fn hidden_and_absent_paths_get_identical_responses_and_different_metrics() {
    let item = StoreItem::file(b"nobody vouches for it");
    let daemon = ScriptedDaemon::start(item.script());
    let trusting = "sign = \"trusted\"\nserve_untrusted = false\n";
    let harmonia = Harmonia::start(&format!("{}{trusting}", daemon.config()));
    looks_absent(&harmonia, &item, "untrusted");
    let asked = f64::from(u8::try_from(urls(&item, "").len()).unwrap());
    assert_eq!(count(&harmonia, 404, "untrusted"), Some(2.0 * asked));
    assert_eq!(count(&harmonia, 404, "not_valid"), Some(asked));

    let corrupt = StoreItem::file(b"nobody vouches for iT").nar;
    let daemon = ScriptedDaemon::start(item.script_with_nar(move || Wire::new().number(LAST).raw(&corrupt).into()));
    let harmonia = Harmonia::start(&daemon.config());
    let _ = harmonia.http().get_failing(&item.nar_url(), &[]);
    await_that(harmonia.http(), "harmonia_quarantined_paths", |paths| paths == Some(1.0));
    looks_absent(&harmonia, &item, "quarantined");
    assert_eq!(count(&harmonia, 404, "quarantined"), Some(2.0 * asked));
    assert_eq!(count(&harmonia, 404, "untrusted"), Some(0.0));
}

#[test]
fn a_404_names_what_is_missing() {
    let item = StoreItem::file(b"here");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let (hash, other) = (item.hash_part(), "0".repeat(52));
    for (url, text, reason) in [
        ("/nothing".to_owned(), "this cache has no such URL", "unknown_url"),
        ("/short.narinfo".to_owned(), "this cache has no such URL", "unknown_url"),
        (format!("/{}.narinfo", ABSENT.repeat(32)), NO_PATH.trim_end(), "not_valid"),
        (
            format!("/nar/{hash}-{other}.nar"),
            "the NAR of this store path has another hash: see its narinfo",
            "nar_hash_mismatch",
        ),
        (format!("/log/{hash}"), "this cache has no log of this derivation or store path", "no_log"),
        ("/debuginfo/00d3adbeef".to_owned(), "this cache has no debug info of this build ID", "no_debug_info"),
        (format!("/serve/{hash}/x"), "this cache has no such file in this store path", "no_file"),
        ("/pubkey".to_owned(), "this cache has no signing key", "no_public_keys"),
    ] {
        let before = count(&harmonia, 404, reason).unwrap();
        let response = harmonia.http().get(&url);
        assert_eq!((response.status, response.text()), (404, &*format!("{text}\n")), "{url}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"), "{url}");
        assert_eq!(count(&harmonia, 404, reason), Some(before + 1.0), "{url}: {reason}");
        let head = harmonia.http().head(&url);
        assert_eq!((head.status, head.header("content-length")), (404, response.header("content-length")), "{url}");
    }
}

#[test]
fn a_502_has_its_reason_except_for_clients_that_would_misread_the_next_response() {
    let socket = scratch::fresh_dir().join("none");
    let harmonia = Harmonia::start(&format!("daemon_socket = \"{}\"\n", socket.display()));
    let url = format!("/{}.narinfo", ABSENT.repeat(32));
    for (agent, encoding, has_body) in [
        ("curl/7.72.0 Nix/2.3.7", "", true),
        ("curl/8.4.0 Nix/2.18.1", "zstd, gzip", false),
        ("curl/8.17.0 Nix/2.34.8", "zstd, gzip", true),
        ("Mozilla/5.0", "gzip, zstd", true),
        ("unknown", "zstd", false),
    ] {
        let response = harmonia.http().get_with(&url, &[("User-Agent", agent), ("Accept-Encoding", encoding)]);
        let id = response.header("x-request-id").unwrap();
        let text = format!("nix-daemon is unreachable (request {id})\n");
        assert_eq!((response.status, response.text()), (502, if has_body { &*text } else { "" }), "{agent}");
        assert!(!response.text().contains('/') && response.header("content-encoding").is_none(), "{agent}");
    }
    assert_eq!(count(&harmonia, 502, "daemon_unreachable"), Some(5.0));
}

#[test]
fn a_daemon_that_errs_is_counted_by_what_it_does() {
    let item = StoreItem::file(b"");
    let daemon = ScriptedDaemon::start(Script::replying(|_| Wire::new().error("no").into()));
    let harmonia = Harmonia::start(&daemon.config());
    assert_eq!(
        harmonia.http().get(&item.narinfo_url()).text().split(" (").next(),
        Some("nix-daemon sent an error or invalid data")
    );
    assert_eq!(count(&harmonia, 502, "daemon_error"), Some(1.0));
    let refusing = ScriptedDaemon::start(Script::greeting(Reply::then_disconnect([])));
    let harmonia = Harmonia::start(&refusing.config());
    assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 502);
    assert_eq!(count(&harmonia, 502, "daemon_refuses"), Some(1.0));
    // Its path info is right, but not about what was asked for.
    let liar = item.clone();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
        Query::PathFromHashPart(_) => liar.path_reply().into(),
        query => liar.reply(query),
    }));
    let harmonia = Harmonia::start(&daemon.config());
    assert_eq!(harmonia.http().get(&format!("/{}.narinfo", ABSENT.repeat(32))).status, 502);
    assert_eq!(count(&harmonia, 502, "daemon_error"), Some(1.0));
}
