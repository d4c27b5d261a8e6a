//! The frame of all pages for people, and the policy that they are sent with.
//!
//! They work without scripts: the one there is puts a button beside each box, which copies its text. Nothing comes from
//! elsewhere, which their policy also says to the browser. Links are relative: a proxy may have this cache below a path.

use std::fmt::Write as _;

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY};
use hyper::http::request::Parts;
use ring::digest::{SHA256, digest};

use super::html::escape;
use super::origin::origin;
use super::response::{Reply, set, set_nosniff};

const STYLE: &str = concat!(include_str!("page.css"), include_str!("people_page.css"));
const SCRIPT: &str = include_str!("copy.js");
/// Stands where the client named no host that could be one.
const UNKNOWN_ORIGIN: &str = "http://HOST";

/// The media type of the pages.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// The content security policy that all pages of this cache share, and whether they are served over https.
#[derive(Debug)]
pub(super) struct PeoplePages {
    is_https: bool,
    policy: HeaderValue,
}

impl PeoplePages {
    /// Of a server that speaks TLS itself, or not.
    pub(super) fn new(is_https: bool) -> Self {
        let hash = |text: &str| data_encoding::BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref());
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'self'; \
             frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        );
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { is_https, policy }
    }

    /// The URL by which a client reached this cache, as HTML and elsewhere.
    pub(super) fn url(&self, request: &Parts) -> String {
        let origin = |headers: &HeaderMap| origin(headers, &request.uri, self.is_https);
        origin(&request.headers).unwrap_or_else(|| UNKNOWN_ORIGIN.to_owned())
    }

    /// Has the browser hold to what is said above.
    pub(super) fn protect(&self, reply: &mut Reply) {
        set(reply, CONTENT_SECURITY_POLICY, self.policy.clone());
        set(reply, REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        set_nosniff(reply);
    }
}

/// A page with this title and, as HTML, these parts of its body.
pub(super) fn page(title: &str, main: &str, footer: &str) -> String {
    format!(
        "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{main}</main>
<footer>
{footer}</footer>
<script>{SCRIPT}</script>
</body>
</html>
",
        title = escape(title)
    )
}

/// Text in a box of its own, for people to copy.
pub(super) fn code_box(text: &str) -> String {
    let lines = text.lines().map(escape).collect::<Vec<_>>().join("\n");
    format!("<div class=\"box\"><pre><code>{lines}</code></pre></div>\n")
}

/// A section with a box; `lead` is HTML.
pub(super) fn section(title: &str, lead: &str, boxes: &[&str]) -> String {
    let mut section = format!("<section>\n<h2>{title}</h2>\n<p>{lead}</p>\n");
    section.extend(boxes.iter().map(|text| code_box(text)));
    section + "</section>\n"
}

/// The field that looks a path up, `up` to the cache's own URL, with what was looked for.
pub(super) fn lookup_form(up: &str, text: &str) -> String {
    format!(
        "<form action=\"{up}lookup\" method=\"get\">\n<input name=\"q\" value=\"{}\" required maxlength=\"4096\" \
         autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\" \
         aria-label=\"Store path, hash or URL\" placeholder=\"/nix/store/… , hash or URL\">\n\
         <button type=\"submit\">Look up</button>\n</form>\n",
        escape(text)
    )
}

/// Rows of a list of facts, as HTML.
#[derive(Debug, Default)]
pub(super) struct Facts(String);

impl Facts {
    /// Adds a row; `value` is HTML.
    pub(super) fn row(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "<dt>{name}</dt><dd>{value}</dd>");
    }

    /// All of them.
    pub(super) fn html(&self) -> String {
        format!("<dl>\n{}</dl>\n", self.0)
    }
}

/// A name as HTML that is broken after dashes, where there is no room for all of it.
pub(super) fn breakable(name: &str) -> String {
    escape(name).replace('-', "-<wbr>")
}

/// A number with a comma before each three digits.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn what_is_shown_is_never_markup() {
        for html in [code_box("<b>"), lookup_form("", "\"><script>alert(1)</script>"), page("<b>", "", "")] {
            assert!(!html.contains("<b>") && !html.contains("<script>alert"), "{html}");
        }
    }
}
