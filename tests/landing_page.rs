//! `/`, the page for people: what it says, and that no header gets markup into it.

use crate::support::http::{Http, Response};
use crate::support::keys;
use crate::support::served;
use crate::support::server::Harmonia;

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

/// The page as it is got with exactly these headers.
fn page_with(http: Http, headers: &[(&str, &str)]) -> Response {
    let headers: String = headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    http.request(format!("GET / HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").as_bytes()).unwrap()
}

/// What of a page is inside of its first element of this name, tags left out and entities resolved.
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
    let http = served::http();
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
        ]
    );
    let facts = texts(response.text(), "dd");
    assert!(facts[0] == "/nix/store" && facts[1].starts_with("30 "), "{facts:?}");
    assert_eq!(facts[2], concat!("harmonia ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_page_is_answered_without_a_daemon_and_to_head() {
    let harmonia =
        Harmonia::start("daemon_socket = \"/nonexistent\"\nvirtual_nix_store = \"/gnu/store\"\npriority = 7\n");
    let response = harmonia.http().get("/");
    assert_eq!(response.status, 200);
    assert!(texts(response.text(), "dd")[0] == "/gnu/store" && texts(response.text(), "dd")[1].starts_with("7 "));
    assert!(response.text().contains("signs nothing"));
    assert!(!response.text().contains("trusted-public-keys"));
    let head = harmonia.http().head("/");
    assert_eq!(head.header("content-length"), Some(&*response.body.len().to_string()));
}

#[test]
fn the_page_runs_and_loads_nothing() {
    let response = served::http().get("/");
    let policy = response.header("content-security-policy").unwrap();
    let parts: Vec<_> = policy.split("; ").collect();
    let (style, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.starts_with("style-src "));
    assert_eq!(others, ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]);
    let css = texts(response.text(), "style").remove(0);
    let hash = ring::digest::digest(&ring::digest::SHA256, css.as_bytes());
    assert_eq!(style, [format!("style-src 'sha256-{}'", data_encoding::BASE64.encode(hash.as_ref()))]);
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
    // Its URL is what headers say, which are no part of a shared cache's key.
    assert_eq!(response.header("cache-control"), Some("no-store"));
    for mark in ["<script", "<link", "<img", "<iframe", "style=", " src=", "@import", "url("] {
        assert!(!response.text().contains(mark), "{mark}");
    }
    let links: Vec<_> = response.text().split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    for link in &links {
        assert_eq!(served::http().get(&format!("/{link}")).status, 200, "{link}");
    }
    assert_eq!(links, ["nix-cache-info", "pubkey", "ready", "metrics"]);
}

#[test]
fn a_proxy_says_by_which_url_it_was_reached() {
    let http = served::http();
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

#[test]
fn headers_of_markup_do_not_come_back() {
    let http = served::http();
    let plain = page_with(http, &[("Host", "cache")]);
    for hostile in HOSTILE {
        for header in ["X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix"] {
            let response = page_with(http, &[("Host", "cache"), (header, hostile)]);
            assert_eq!((response.status, response.text()), (200, plain.text()), "{header}: {hostile}");
        }
        let response = page_with(http, &[("Host", hostile)]);
        let without = plain.text().replace("http://cache", "http://HOST");
        assert!(response.status == 400 || response.text() == without, "Host: {hostile}");
    }
    for headers in [vec![("Host", "cache"), ("X-Forwarded-Host", "\u{fc}\u{7f}")], vec![("Host", "cache\u{202e}")]] {
        let response = page_with(http, &headers);
        assert!(response.status == 400 || !response.text().contains('\u{202e}'), "{headers:?}");
    }
    // Empty is what a client sends that knows no name (RFC 9112, section 3.2).
    let response = http.request(b"GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(texts(response.text(), "pre")[0], "http://HOST");
}
