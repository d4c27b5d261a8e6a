//! A cache with `[access]` behind a caching proxy: what depends on who asks is kept by none, what anybody may read is.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::nix::client::Client;
use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::proxies::caching_proxy::Proxy;
use crate::proxies::nginx::Nginx;
use crate::proxies::varnish::Varnish;
use crate::push::source::Source;
use crate::support::http::Response;
use crate::support::keys;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::users::{basic, users_file};

/// Size that exceeds any buffer of a proxy.
const LARGE: usize = 3_000_000;

/// A proxy before a cache of one path, which is in the view of alice and not in that of bob.
struct Chain<P> {
    item: StoreItem,
    proxy: P,
    audit: PathBuf,
    harmonia: Harmonia,
    _daemon: ScriptedDaemon,
}

impl<P: Proxy> Chain<P> {
    /// Starts it with these rights of anonymous clients, a line of the configuration.
    fn start(anonymous: &str) -> Self {
        let item = StoreItem::file_of(LARGE);
        let daemon = ScriptedDaemon::start(item.script());
        let users = users_file(&[("alice", "password-of-alice"), ("bob", "password-of-bob")]);
        let audit = scratch::fresh_dir().join("audit.log");
        let harmonia = Harmonia::start(&format!(
            "{}access.users_file = \"{}\"\n{anonymous}\n\
             [[access.grant]]\nwho = [\"user:alice\"]\nmay = [\"read\"]\nview = \"one\"\n\
             [[access.grant]]\nwho = [\"user:bob\"]\nmay = [\"read\"]\nview = \"two\"\n\
             [views.one]\nroots = [\"{}\"]\n[views.two]\nroots = [\"/nonexistent\"]\n[audit]\nfile = \"{}\"\n",
            daemon.config(),
            users.display(),
            item.path,
            audit.display()
        ));
        Self { item, proxy: P::before(harmonia.address()), audit, harmonia, _daemon: daemon }
    }

    /// Sends a request of one of the users, or of nobody, from an address of its own.
    fn ask(&self, user: Option<&str>, url: &str, more: &[(&str, &str)]) -> Response {
        let credentials = user.map(|name| basic(name, &format!("password-of-{name}")));
        let credentials = credentials.as_deref().map(|value| ("Authorization", value));
        let headers: Vec<_> = credentials.into_iter().chain(more.iter().copied()).collect();
        let last = user.map_or(1, |name| name.as_bytes()[0]);
        self.proxy.http().from([127, 0, 9, last]).get_with(url, &headers)
    }

    fn statuses(&self, url: &str, more: &[(&str, &str)]) -> [u16; 3] {
        [Some("alice"), Some("bob"), None].map(|user| self.ask(user, url, more).status)
    }
}

fn cache_status(response: &Response) -> &str {
    // nginx says nothing where it does not look into its cache.
    response.header("x-cache-status").unwrap_or("MISS")
}

fn keeps_nothing_that_depends_on_who_asks<P: Proxy>() {
    let chain = Chain::<P>::start("access.anonymous = []");
    let urls = [chain.item.narinfo_url(), chain.item.nar_url(), format!("/{}.ls", chain.item.hash_part())];
    let etags = urls.each_ref().map(|url| {
        let response = chain.ask(Some("alice"), url, &[]);
        assert_eq!(response.status, 200, "{url}");
        let cache_control = response.header("cache-control").unwrap();
        assert!(cache_control.starts_with("private, "), "{url}: {cache_control}");
        assert!(response.header("vary").unwrap().to_ascii_lowercase().contains("authorization"), "{url}");
        response.header("etag").map(str::to_owned)
    });
    assert!(chain.ask(Some("alice"), &urls[1], &[]).body == chain.item.nar);
    // In any order, and twice.
    for _ in 0..2 {
        for (url, etag) in urls.iter().zip(&etags) {
            assert_eq!(chain.statuses(url, &[]), [200, 404, 401], "{url}");
            let again = chain.ask(Some("alice"), url, &[]);
            assert_eq!((again.status, cache_status(&again)), (200, "MISS"), "{url}");
            assert_eq!(chain.statuses(url, &[("Accept-Encoding", "zstd")]), [200, 404, 401], "{url}");
            if let Some(etag) = etag {
                assert_eq!(chain.statuses(url, &[("If-None-Match", etag)]), [304, 404, 401], "{url}");
            }
            // Nor is it told by whose name or password one asks.
            for value in [
                basic("alice", "password-of-bob"),
                basic("mallory", "password-of-alice"),
                "Bearer password-of-alice".to_owned(),
            ] {
                let response = chain.proxy.http().get_with(url, &[("Authorization", &value)]);
                assert!(matches!(response.status, 401 | 429), "{url}: {}", response.status);
            }
        }
        assert_eq!(chain.statuses(&urls[1], &[("Range", "bytes=1000-1999")]), [206, 404, 401]);
        let part = chain.ask(Some("alice"), &urls[1], &[("Range", "bytes=1000-1999")]);
        assert!(part.body == chain.item.nar[1000..2000]);
        for url in &urls {
            assert_eq!(chain.proxy.http().head(url).status, 401, "{url}");
        }
        assert_eq!(chain.statuses("/nix-cache-info", &[]), [200, 200, 401]);
    }
    for url in urls {
        for user in [Some("bob"), None] {
            let refused = chain.ask(user, &url, &[]);
            assert_eq!(refused.header("cache-control"), Some("no-store"), "{url}");
            assert!(!refused.body.windows(8).any(|bytes| bytes == b"NarHash:"), "{url}");
        }
    }
}

fn keeps_what_anybody_may_read<P: Proxy>() {
    let chain = Chain::<P>::start("access.anonymous = [\"read\"]");
    for url in [chain.item.narinfo_url(), chain.item.nar_url()] {
        // What somebody gets by credentials is not kept, although anybody might have it.
        let named = chain.ask(Some("alice"), &url, &[]);
        assert_eq!((named.status, cache_status(&named)), (200, "MISS"), "{url}");
        assert!(named.header("cache-control").unwrap().starts_with("private, "), "{url}");
        for status in ["MISS", "HIT", "HIT"] {
            let response = chain.ask(None, &url, &[]);
            assert_eq!((response.status, cache_status(&response)), (200, status), "{url}");
            assert!(response.header("cache-control").unwrap().starts_with("public, "), "{url}");
            assert!(response.body == named.body, "{url}");
        }
        let part = chain.ask(None, &url, &[("Range", "bytes=1-9")]);
        assert!(part.status == 206 && part.body == named.body[1..10], "{url}");
        // Those with rights of their own have them.
        assert_eq!(chain.statuses(&url, &[]), [200, 200, 200], "{url}");
    }
}

fn keeps_a_public_view_apart_from_others<P: Proxy>() {
    // Anonymous clients see what bob sees: nothing.
    let chain = Chain::<P>::start("[[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\nview = \"two\"");
    let url = chain.item.narinfo_url();
    for _ in 0..2 {
        assert_eq!(chain.statuses(&url, &[]), [200, 404, 404]);
        assert_eq!(chain.statuses(&chain.item.nar_url(), &[]), [200, 404, 404]);
    }
}

fn names_clients_by_the_address_that_the_proxy_sees<P: Proxy>() {
    let mut chain = Chain::<P>::start("access.anonymous = []");
    let forged = [("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9"), ("X-Real-IP", "203.0.113.9")];
    assert_eq!(chain.ask(Some("alice"), &chain.item.narinfo_url(), &forged).status, 200);
    let cn = [("X-SSL-Client-CN", "alice"), ("X-Forwarded-User", "alice"), ("Remote-User", "alice")];
    assert_eq!(chain.ask(None, &chain.item.narinfo_url(), &cn).status, 401);
    chain.harmonia.terminate();
    assert!(chain.harmonia.ended().success());
    let text = fs::read_to_string(&chain.audit).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let seen: Vec<_> =
        lines.filter_map(|line| Some((line.get("principal")?.clone(), line["address"].clone()))).collect();
    assert_eq!(seen, [("user:alice".into(), "127.0.9.97".into()), ("anonymous".into(), "127.0.9.1".into())], "{text}");
}

/// Nix reads by the password in its netrc, and pushes, through a proxy.
fn nix_reads_and_pushes<P: Proxy>() {
    let config = [
        "substitute = false".to_owned(),
        "trusted-users = nobody".to_owned(),
        format!("trusted-public-keys = {}", keys::FOREIGN.public),
    ];
    let daemon = Daemon::on(Prefix::new(Release::Nix2_34, &config), Content::default());
    let users = users_file(&[("ci", "password-of-ci"), ("bob", "password-of-bob")]);
    let harmonia = Harmonia::start(&format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nstate_dir = \"{}\"\n[access]\nanonymous = []\nusers_file = \"{}\"\n\
         [[access.grant]]\nwho = [\"user:ci\"]\nmay = [\"read\", \"push\"]\n\
         [[access.grant]]\nwho = [\"user:bob\"]\nmay = [\"read\"]\n[push]\n",
        daemon.socket().display(),
        keys::OURS.secret.display(),
        scratch::fresh_dir().display(),
        users.display()
    ));
    let proxy = P::before(harmonia.address());
    let url = format!("http://{}", proxy.address());
    for (release, digit) in Release::ALL.into_iter().zip('3'..) {
        // More than a proxy takes by default.
        let source = Source::new(release, digit, 3 << 19);
        source.has_password("127.0.0.1", "bob", "password-of-bob");
        let refused = source.push(&url, &[&source.top]).failure();
        assert!(refused.contains("403"), "{release}: {refused}");
        source.has_password("127.0.0.1", "ci", "password-of-ci");
        let _ = source.push(&url, &[&source.top]).stdout();

        let reader = Client::new(release, &url, &[&keys::OURS]);
        let _ = reader.copy(&[&source.top]).failure();
        assert!(!reader.has(&source.top), "{release}");
        reader.has_password("127.0.0.1", "bob", "password-of-bob");
        let _ = reader.copy(&[&source.top]).stdout();
        assert_eq!(reader.verified_closure(&[&source.top]), [&*source.top, &*source.leaf], "{release}");
    }
}

#[test]
fn nginx_keeps_nothing_that_depends_on_who_asks() {
    keeps_nothing_that_depends_on_who_asks::<Nginx>();
}

#[test]
fn varnish_keeps_nothing_that_depends_on_who_asks() {
    keeps_nothing_that_depends_on_who_asks::<Varnish>();
}

#[test]
fn nginx_keeps_what_anybody_may_read() {
    keeps_what_anybody_may_read::<Nginx>();
}

#[test]
fn varnish_keeps_what_anybody_may_read() {
    keeps_what_anybody_may_read::<Varnish>();
}

#[test]
fn nginx_keeps_a_public_view_apart_from_others() {
    keeps_a_public_view_apart_from_others::<Nginx>();
}

#[test]
fn varnish_keeps_a_public_view_apart_from_others() {
    keeps_a_public_view_apart_from_others::<Varnish>();
}

#[test]
fn behind_nginx_a_client_has_the_address_that_nginx_sees() {
    names_clients_by_the_address_that_the_proxy_sees::<Nginx>();
}

#[test]
fn behind_varnish_a_client_has_the_address_that_varnish_sees() {
    names_clients_by_the_address_that_the_proxy_sees::<Varnish>();
}

#[test]
fn nix_reads_and_pushes_with_a_password_through_nginx() {
    nix_reads_and_pushes::<Nginx>();
}

#[test]
fn nix_reads_and_pushes_with_a_password_through_varnish() {
    nix_reads_and_pushes::<Varnish>();
}
