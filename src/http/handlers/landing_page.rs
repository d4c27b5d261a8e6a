//! `/`: for people who open the cache's URL in a browser. What to copy, and what this is.
//!
//! Without scripts and without anything from elsewhere, which its policy also says to the browser.

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use ring::digest::{SHA256, digest};

use super::super::html::escape;
use super::super::origin::origin;
use super::super::response::{Keep, Reply, set, text};
use super::super::{App, VERSION};
use crate::config::{Config, Sign};
use crate::store::Store;

const STYLE: &str = concat!(include_str!("../page.css"), include_str!("landing_page.css"));
/// Stands where the client named no host that could be one.
const UNKNOWN_ORIGIN: &str = "http://HOST";

/// What of the page is the same for every request.
#[derive(Debug)]
pub(in crate::http) struct LandingPage {
    is_https: bool,
    priority: u32,
    store: String,
    policy: HeaderValue,
}

impl LandingPage {
    /// A page about this cache; the URL in it follows with each request.
    pub(in crate::http) fn new(config: &Config, store: &Store) -> Self {
        let style = data_encoding::BASE64.encode(digest(&SHA256, STYLE.as_bytes()).as_ref());
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Self {
            is_https: config.tls.is_some(),
            priority: config.priority,
            store: store.directory().to_string(),
            policy: HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
        }
    }

    fn render(&self, url: &str, keys: &[String], sign: &Sign) -> String {
        let mut page = String::with_capacity(2 * STYLE.len());
        // Writing to a string cannot fail.
        let _ = self.write(&mut page, url, keys, sign);
        page
    }

    /// Links are relative: a proxy may have this cache below a path.
    fn write(&self, page: &mut String, url: &str, keys: &[String], sign: &Sign) -> std::fmt::Result {
        write!(
            page,
            "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Nix binary cache</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Nix binary cache</h1>
<p>It serves the paths of a Nix store to other machines, so that they need not build them. \
Click a box to select its text.</p>
<pre class=\"url\"><code>{url}</code></pre>
",
            url = escape(url)
        )?;
        section(page, "nix.conf", "For <code>/etc/nix/nix.conf</code> of any machine with Nix:", &nix_conf(url, keys))?;
        section(page, "NixOS", "The same as a module of a NixOS configuration:", &nixos_module(url, keys))?;
        write_keys(page, keys, sign)?;
        write!(
            page,
            "<section>
<h2>About</h2>
<dl>
<dt>Store directory</dt><dd><code>{store}</code></dd>
<dt>Priority</dt><dd>{priority} (the lowest is asked first; cache.nixos.org has 40)</dd>
<dt>Version</dt><dd>{VERSION}</dd>
</dl>
</section>
</main>
<footer>
<a href=\"nix-cache-info\">nix-cache-info</a> {pubkey}<a href=\"ready\">ready</a> <a href=\"metrics\">metrics</a>
</footer>
</body>
</html>
",
            store = escape(&self.store),
            priority = self.priority,
            pubkey = if keys.is_empty() { "" } else { "<a href=\"pubkey\">pubkey</a> " },
        )
    }
}

/// The page, as the client that asks sees this cache.
pub(in crate::http) fn respond(app: &App, parts: &Parts) -> Reply {
    let page = &app.landing_page;
    let url = origin(&parts.headers, &parts.uri, page.is_https);
    let signer = app.signer.load();
    let keys: Vec<String> = signer.keys().public_keys().map(ToString::to_string).collect();
    let body = page.render(url.as_deref().unwrap_or(UNKNOWN_ORIGIN), &keys, signer.sign());
    // The URL comes from headers that a shared cache in front does not tell requests apart by.
    let mut reply = text(StatusCode::OK, Keep::Not, "text/html; charset=utf-8", body.into());
    set(&mut reply, CONTENT_SECURITY_POLICY, page.policy.clone());
    set(&mut reply, X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    set(&mut reply, REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    reply
}

fn write_keys(page: &mut String, keys: &[String], sign: &Sign) -> std::fmt::Result {
    let what = match sign {
        Sign::All => "Everything from here",
        Sign::Trusted(_) => "What this cache trusts",
    };
    write!(page, "<section>\n<h2>Public keys</h2>\n<p>")?;
    match keys.len() {
        0 => write!(
            page,
            "This cache signs nothing itself. Clients take from it what is signed by keys that they trust already."
        ),
        1 => write!(page, "{what} is signed with the secret half of this key:"),
        _ => write!(page, "{what} is signed with the secret halves of these keys; one of them is enough:"),
    }?;
    writeln!(page, "</p>")?;
    if let Sign::Trusted(_) = sign {
        writeln!(page, "<p>It signs {}.</p>", escape(&sign.to_string()))?;
    }
    for key in keys {
        writeln!(page, "<pre><code>{}</code></pre>", escape(key))?;
    }
    page.write_str("</section>\n")
}

fn nix_conf(url: &str, keys: &[String]) -> String {
    let mut text = format!("extra-substituters = {url}");
    if !keys.is_empty() {
        let _ = write!(text, "\nextra-trusted-public-keys = {}", keys.join(" "));
    }
    text
}

fn nixos_module(url: &str, keys: &[String]) -> String {
    let mut text = String::from("{\n  nix.settings = {\n");
    nix_list(&mut text, "substituters", &[url.to_owned()]);
    if !keys.is_empty() {
        nix_list(&mut text, "trusted-public-keys", keys);
    }
    text + "  };\n}"
}

fn section(page: &mut String, title: &str, lead: &str, code: &str) -> std::fmt::Result {
    let code = code.lines().map(escape).collect::<Vec<_>>().join("\n");
    write!(page, "<section>\n<h2>{title}</h2>\n<p>{lead}</p>\n<pre><code>{code}</code></pre>\n</section>\n")
}

/// A setting with one string per line.
fn nix_list(text: &mut String, name: &str, strings: &[String]) {
    let lines: Vec<_> = strings.iter().map(|string| format!("      {}\n", nix_string(string))).collect();
    let _ = write!(text, "    {name} = [\n{}    ];\n", lines.concat());
}

/// A string literal of the Nix language.
fn nix_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[String], sign: &Sign) -> String {
        let page = LandingPage {
            is_https: false,
            priority: 30,
            store: "/nix/store".to_owned(),
            policy: HeaderValue::from_static(""),
        };
        page.render("http://cache", keys, sign)
    }

    #[test]
    fn what_a_key_is_called_is_never_markup_nor_nix() {
        let odd = ["<b>\"${x}\\-1:AAAA".to_owned()];
        let html = page(&odd, &Sign::All);
        assert!(!html.contains("<b>"), "{html}");
        assert!(nixos_module("http://cache", &odd).contains(r#""<b>\"\${x}\\-1:AAAA""#));
    }

    #[test]
    fn without_keys_there_is_nothing_to_trust() {
        let html = page(&[], &Sign::All);
        assert!(html.contains("signs nothing") && !html.contains("trusted-public-keys") && !html.contains("pubkey"));
    }
}
