//! The frame and building blocks of HTML pages, and their content security policy.
//!
//! The pages work without scripts; the only one adds a copy button to each box. They load nothing from elsewhere, which
//! the policy enforces. Links are relative: a proxy may serve this cache below any path.

use std::fmt::Write as _;

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use hyper::http::request::Parts;
use ring::digest::{SHA256, digest};

use crate::http::html::escape::escape;
use crate::http::request::base_url::base_url;
use crate::http::response::body::Response;
use crate::http::response::headers::{set, set_nosniff};

const STYLE: &str = concat!(include_str!("base.css"), include_str!("page.css"));
const SCRIPT: &str = include_str!("copy.js");
/// Placeholder for the base URL, if the request names no valid host.
const UNKNOWN_BASE_URL: &str = "http://HOST";

/// Media type of the pages.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// Settings of all pages: their content security policy, and whether this server speaks TLS.
#[derive(Debug)]
pub(crate) struct HtmlPages {
    is_https: bool,
    policy: HeaderValue,
}

impl HtmlPages {
    /// Creates it for a server that speaks TLS itself, or not.
    pub(crate) fn new(is_https: bool) -> Self {
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

    /// Returns the URL by which the client reached this cache, without a slash at its end.
    pub(crate) fn base_url(&self, request: &Parts) -> String {
        base_url(&request.headers, &request.uri, self.is_https).unwrap_or_else(|| UNKNOWN_BASE_URL.to_owned())
    }

    /// Sets the headers that make browsers enforce the policy.
    pub(crate) fn protect(&self, response: &mut Response) {
        set(response, CONTENT_SECURITY_POLICY, self.policy.clone());
        set(response, REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        set_nosniff(response);
    }
}

/// Renders a page. `main` and `footer` are HTML, `title` is text.
pub(crate) fn page(title: &str, main: &str, footer: &str) -> String {
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

/// Renders a box with text to be copied.
pub(crate) fn code_box(text: &str) -> String {
    let lines = text.lines().map(escape).collect::<Vec<_>>().join("\n");
    format!("<div class=\"box\"><pre><code>{lines}</code></pre></div>\n")
}

/// Renders a section with boxes; `title` and `lead` are HTML.
pub(crate) fn section(title: &str, lead: &str, boxes: &[&str]) -> String {
    let mut section = format!("<section>\n<h2>{title}</h2>\n<p>{lead}</p>\n");
    section.extend(boxes.iter().map(|text| code_box(text)));
    section + "</section>\n"
}

/// Renders the form that looks up a path; `root` is the relative link to the cache's own URL.
pub(crate) fn lookup_form(root: &str, text: &str) -> String {
    format!(
        "<form action=\"{root}lookup\" method=\"get\">\n<input name=\"q\" value=\"{}\" required maxlength=\"4096\" \
         autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\" \
         aria-label=\"Store path, hash or URL\" placeholder=\"/nix/store/… , hash or URL\">\n\
         <button type=\"submit\">Look up</button>\n</form>\n",
        escape(text)
    )
}

/// A list of facts as HTML.
#[derive(Debug, Default)]
pub(crate) struct Facts(String);

impl Facts {
    /// Adds a row; `value` is HTML.
    pub(crate) fn row(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "<dt>{name}</dt><dd>{value}</dd>");
    }

    /// Renders the list.
    pub(crate) fn html(&self) -> String {
        format!("<dl>\n{}</dl>\n", self.0)
    }
}

/// Renders a name that may be broken into lines after its dashes.
pub(crate) fn breakable(name: &str) -> String {
    escape(name).replace('-', "-<wbr>")
}

/// Renders a number with commas between thousands.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
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
    fn thousands_are_separated_by_commas() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn text_never_becomes_markup() {
        for html in [code_box("<b>"), lookup_form("", "\"><script>alert(1)</script>"), page("<b>", "", "")] {
            assert!(!html.contains("<b>") && !html.contains("<script>alert"), "{html}");
        }
    }
}
