//! `/`, the landing page: its contents, and that no header injects markup.

use std::collections::BTreeMap;

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server;
use crate::support::http::{Http, Response};
use crate::support::keys;
use crate::support::narinfo;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

const HOSTILE: [&str; 12] = [
    "<script>alert(1)</script>",
    "cache\"><img src=x onerror=alert(1)>",
    "cache'onmouseover='alert(1)",
    "javascript:alert(1)",
    "cache/<b>",
    "user:secret@cache",
    "cache\\@evil.example",
    "cache;rm -rf ~",
    "$(reboot)",
    "${builtins.abort}",
    "cache evil",
    "&lt;",
];

/// Requests the page with exactly these headers.
fn page_with(http: Http, headers: &[(&str, &str)]) -> Response {
    let headers: String = headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    http.request(format!("GET / HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").as_bytes()).unwrap()
}

/// Returns the texts of a page's elements of this name, without tags and with entities decoded.
fn texts(html: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let inner = html.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap());
    inner.map(|inner| text(inner.split_once('>').unwrap().1)).collect()
}

fn text(html: &str) -> String {
    let without_tags: String = html
        .split('<')
        .enumerate()
        .map(|(n, part)| if n == 0 { part } else { part.split_once('>').unwrap().1 })
        .collect();
    without_tags
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[test]
fn the_page_has_what_a_client_needs_to_copy() {
    let http = shared_server::http();
    let response = page_with(http, &[("Host", "cache.example.org:5000")]);
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let (url, key) = ("http://cache.example.org:5000", &keys::OURS.public);
    let boxes = texts(response.text(), "pre");
    assert_eq!(
        boxes,
        [
            url.to_owned(),
            format!("extra-substituters = {url}\nextra-trusted-public-keys = {key}"),
            format!(
                "{{\n  nix.settings = {{\n    substituters = [\n      \"{url}\"\n    ];\n    trusted-public-keys = [\n      \
                 \"{key}\"\n    ];\n  }};\n}}"
            ),
            key.clone(),
            format!("nix store info --store {url}"),
            format!("nix copy --from {url} /nix/store/HASH-NAME"),
        ]
    );
    assert_eq!(texts(response.text(), "h1"), ["harmonia.test"]);
    for part in ["nix-daemon responds.", "trusted-users", "netrc"] {
        assert!(response.text().contains(part), "{part}");
    }
}

/// Returns the facts of a page by their names.
fn facts(html: &str) -> BTreeMap<String, String> {
    texts(html, "dt").into_iter().zip(texts(html, "dd")).collect()
}

#[test]
fn the_page_tells_how_the_cache_is_used() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let harmonia = Harmonia::for_daemon(daemon);
    let before = facts(harmonia.http().get("/").text());
    assert!(before["Paths in the store"].contains(", counted 0 seconds ago"), "{before:?}");
    assert!(
        before["Sent"].starts_with("0 B of NARs since the start") && !before.contains_key("Hit rate"),
        "{before:?}"
    );
    let hash = hash_part(daemon.content().path("regular"));
    let narinfo = harmonia.http().get(&format!("/{hash}.narinfo"));
    assert_eq!(harmonia.http().get("/99999999999999999999999999999999.narinfo").status, 404);
    let nar = harmonia.http().get(&format!("/{}", narinfo::value(narinfo.text(), "URL")));
    let after = facts(harmonia.http().get("/").text());
    assert_eq!(after["Hit rate"], "50.0% of 2 requested paths");
    assert!(!nar.body.is_empty() && after["Sent"] != before["Sent"], "{after:?}");
    let expected = [
        "/nix/store",
        "30 (clients try the lowest first; cache.nixos.org has 40)",
        concat!("harmonia ", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(["Store directory", "Priority", "Version"].map(|name| after[name].as_str()), expected);
}

#[test]
fn the_page_is_answered_without_a_daemon_and_to_head() {
    let harmonia =
        Harmonia::start("daemon_socket = \"/nonexistent\"\nvirtual_nix_store = \"/gnu/store\"\npriority = 7\n");
    let response = harmonia.http().get("/");
    assert_eq!(response.status, 200);
    let facts = facts(response.text());
    assert!(facts["Store directory"] == "/gnu/store" && facts["Priority"].starts_with("7 "), "{facts:?}");
    assert!(response.text().contains("has no signing key") && !response.text().contains("trusted-public-keys"));
    assert!(response.text().contains("Not all paths can be served now: nix-daemon"), "{}", response.text());
    assert!(!facts.contains_key("Paths in the store") && response.text().contains("<h1>Nix binary cache</h1>"));
    let head = harmonia.http().head("/");
    assert!(head.status == 200 && head.body.is_empty() && head.header("content-length").is_some());
}

#[test]
fn the_page_loads_nothing_and_runs_what_its_policy_names() {
    let response = shared_server::http().get("/");
    let policy = response.header("content-security-policy").unwrap();
    let parts: Vec<_> = policy.split("; ").collect();
    let source = |element: &str| {
        let open = format!("<{element}>");
        let source = response.text().split_once(&open).unwrap().1.split_once(&format!("</{element}>")).unwrap().0;
        let hash = ring::digest::digest(&ring::digest::SHA256, source.as_bytes());
        format!("{element}-src 'sha256-{}'", data_encoding::BASE64.encode(hash.as_ref()))
    };
    let (style, script) = (source("style"), source("script"));
    assert_eq!(
        parts,
        ["default-src 'none'", &style, &script, "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"]
    );
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
    // Its URL is what headers say, which are no part of a shared cache's key.
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.text().matches("<script").count(), 1);
    for mark in ["<link", "<img", "<iframe", "style=", " src=", "@import", "url("] {
        assert!(!response.text().contains(mark), "{mark}");
    }
    let links: Vec<_> = response.text().split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    for link in &links {
        assert_eq!(shared_server::http().get(&format!("/{link}")).status, 200, "{link}");
    }
    assert_eq!(links, ["nix-cache-info", "pubkey", "ready", "metrics"]);
}

#[test]
fn a_proxy_says_by_which_url_it_was_reached() {
    let http = shared_server::http();
    let own = ("Host", "127.0.0.1:5000");
    for (headers, url) in [
        (vec![own], "http://127.0.0.1:5000"),
        (vec![own, ("X-Forwarded-Proto", "https")], "https://127.0.0.1:5000"),
        (
            vec![own, ("X-Forwarded-Host", "cache.example.org"), ("X-Forwarded-Proto", "https")],
            "https://cache.example.org",
        ),
        (vec![own, ("X-Forwarded-Host", "[2001:db8::7]:443, inner")], "http://[2001:db8::7]:443"),
        (vec![own, ("X-Forwarded-Prefix", "/nix/cache/")], "http://127.0.0.1:5000/nix/cache"),
        (vec![own, ("X-Forwarded-Prefix", "/nix/../x")], "http://127.0.0.1:5000"),
        (vec![own, ("X-Forwarded-Proto", "gopher")], "http://127.0.0.1:5000"),
    ] {
        assert_eq!(texts(page_with(http, &headers).text(), "pre")[0], url, "{headers:?}");
    }
}

/// Returns the part of the page without counters.
fn lasting(page: &Response) -> &str {
    page.text().split("<h2>About</h2>").next().unwrap()
}

#[test]
fn headers_of_markup_do_not_come_back() {
    let http = shared_server::http();
    let plain = page_with(http, &[("Host", "cache")]);
    for hostile in HOSTILE {
        for header in ["X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix"] {
            let response = page_with(http, &[("Host", "cache"), (header, hostile)]);
            assert_eq!((response.status, lasting(&response)), (200, lasting(&plain)), "{header}: {hostile}");
        }
        let response = page_with(http, &[("Host", hostile)]);
        let without = lasting(&plain).replace("http://cache", "http://HOST");
        assert!(response.status == 400 || lasting(&response) == without, "Host: {hostile}");
    }
    for headers in [vec![("Host", "cache"), ("X-Forwarded-Host", "\u{fc}\u{7f}")], vec![("Host", "cache\u{202e}")]] {
        let response = page_with(http, &headers);
        assert!(response.status == 400 || !response.text().contains('\u{202e}'), "{headers:?}");
    }
    // Empty is what a client sends that knows no name (RFC 9112, section 3.2).
    let response = http.request(b"GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(texts(response.text(), "pre")[0], "http://HOST");
}
