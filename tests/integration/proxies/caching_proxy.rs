//! Requirements on every caching proxy in front of harmonia.

use std::net::SocketAddr;

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::{Http, Response};
use crate::support::keys;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::{LAST, Wire};

/// Size that exceeds any buffer of a proxy.
const LARGE: usize = 3_000_000;
/// `Accept-Encoding` of the clients, which must make no difference.
const ZSTD: (&str, &str) = ("Accept-Encoding", "zstd, gzip");

/// Caching proxy, stopped on drop.
pub(crate) trait Proxy {
    /// Starts the proxy with an empty cache.
    fn before(upstream: SocketAddr) -> Self;
    /// Returns the address that it listens on.
    fn address(&self) -> SocketAddr;
    /// Returns a client of the proxy.
    fn http(&self) -> Http {
        Http::new(self.address())
    }
}

/// Proxy, harmonia, and a scripted daemon.
pub(crate) struct Chain<P> {
    pub(crate) proxy: P,
    pub(crate) daemon: ScriptedDaemon,
    pub(crate) harmonia: Harmonia,
}

impl<P: Proxy> Chain<P> {
    pub(crate) fn before(script: Script) -> Self {
        let daemon = ScriptedDaemon::start(script);
        let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), nar_cache_on_demand()));
        let proxy = P::before(harmonia.address());
        Self { proxy, daemon, harmonia }
    }
}

fn cache_status(response: &Response) -> &str {
    response.header("x-cache-status").expect("no X-Cache-Status")
}

/// The second request for a narinfo and for a NAR is answered from the cache.
pub(crate) fn keeps_narinfos_and_nars<P: Proxy>() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::<P>::before(item.script());
    let http = chain.proxy.http();
    for url in [item.narinfo_url(), item.nar_url()] {
        let first = http.get_with(&url, &[ZSTD]);
        assert_eq!((first.status, cache_status(&first)), (200, "MISS"), "{url}");
        let asked = chain.daemon.seen().queries.len();
        let second = http.get(&url);
        assert_eq!((second.status, cache_status(&second)), (200, "HIT"), "{url}");
        assert_eq!(chain.daemon.seen().queries.len(), asked, "{url}");
        assert!(first.body == second.body, "{url}");
        for response in [first, second] {
            for header in ["content-length", "etag", "cache-control"] {
                assert!(response.header(header).is_some(), "{url}: no {header}");
            }
            assert_eq!(response.header("accept-ranges"), Some("bytes"), "{url}");
            assert_eq!(response.header("content-encoding"), None, "{url}");
        }
    }
    assert!(http.get(&item.nar_url()).body == item.nar);
}

/// Ranges pass with `Accept-Ranges`, whether the NAR is in the cache or not.
pub(crate) fn passes_ranges<P: Proxy>() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::<P>::before(item.script());
    let first = LARGE / 2;
    for status in ["MISS", "HIT"] {
        let response = chain.proxy.http().get_with(&item.nar_url(), &[ZSTD, ("Range", &format!("bytes={first}-"))]);
        assert_eq!((response.status, cache_status(&response)), (206, status));
        let expected = format!("bytes {first}-{}/{}", item.nar.len() - 1, item.nar.len());
        assert_eq!(response.header("content-range"), Some(&*expected), "{status}");
        assert_eq!(response.header("accept-ranges"), Some("bytes"), "{status}");
        assert!(response.body == item.nar[first..], "{status}");
    }
}

/// A HEAD of a NAR reads none.
pub(crate) fn reads_no_nar_for_a_head<P: Proxy>() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::<P>::before(item.script());
    let response = chain.proxy.http().head(&item.nar_url());
    assert_eq!(response.header("content-length"), Some(&*item.nar.len().to_string()));
    assert!(!chain.daemon.seen().queries.iter().any(|query| matches!(query, Query::Nar(_))));
}

/// A path that appears is there at once.
pub(crate) fn keeps_no_404_nor_502<P: Proxy>() {
    let item = StoreItem::file(b"comes later");
    let nothing = Script::replying(|query| match query {
        Query::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
        other => panic!("{other:?}"),
    });
    let chain = Chain::<P>::before(nothing);
    let http = chain.proxy.http();
    let urls = [item.narinfo_url(), item.nar_url()];
    for url in &urls {
        assert_eq!(http.get(url).status, 404, "{url}");
    }
    chain.daemon.play(Script::replying(|_| Reply::then_disconnect([])));
    for url in &urls {
        let response = http.get_with(url, &[("Range", "bytes=1-")]);
        assert_eq!((response.status, response.header("accept-ranges")), (502, Some("bytes")), "{url}");
    }
    chain.daemon.play(item.script());
    for url in &urls {
        assert_eq!(http.get(url).status, 200, "{url}");
    }
}

/// A NAR that was cut is neither whole nor kept.
pub(crate) fn keeps_no_nar_that_was_cut<P: Proxy>() {
    let item = StoreItem::file_of(LARGE);
    let half = item.nar[..LARGE / 2].to_vec();
    let cut = move || Reply::then_disconnect(Wire::new().number(LAST).raw(&half).done());
    let chain = Chain::<P>::before(item.script_with_nar(cut));
    let http = chain.proxy.http();
    let body = http.get_failing(&item.nar_url(), &[]);
    assert!(body.len() < item.nar.len());

    chain.daemon.play(item.script());
    let response = http.get(&item.nar_url());
    assert_eq!((response.status, cache_status(&response)), (200, "MISS"));
    assert!(response.body == item.nar);
}

/// Nix copies a closure twice; the second time its narinfos come from the cache.
pub(crate) fn copies_a_closure(proxy: &impl Proxy, daemon: &Daemon) {
    let paths = ["many-references", "large"].map(|name| daemon.content().path(name));
    let mut closure = Vec::new();
    for _ in 0..2 {
        let client = Client::new(Release::Nix2_34, &format!("http://{}", proxy.address()), &[&keys::OURS]);
        let _ = client.copy(&paths).stdout();
        closure = client.verified_closure(&paths);
        assert!(paths.iter().all(|path| closure.iter().any(|copied| copied == path)), "{closure:?}");
    }
    for path in closure {
        let response = proxy.http().get(&format!("/{}.narinfo", hash_part(&path)));
        assert_eq!(cache_status(&response), "HIT", "{path}");
    }
}
