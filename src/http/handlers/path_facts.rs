//! Parts of the pages about paths: sizes, commands, references.

use std::fmt::Write as _;

use crate::http::html::escape::escape;
use crate::http::html::page::{breakable, number};
use crate::http::links::encode_segment;
use crate::human_size::human_size;

/// Upper bound of references that are shown: a hundred kilobytes, and more than all but a few paths have.
pub(super) const MAX_REFERENCES: usize = 500;

/// Renders text that scrolls instead of being broken into lines.
pub(super) fn nowrap(text: &str) -> String {
    format!("<code class=\"nowrap\">{}</code>", escape(text))
}

/// Renders a number of bytes, rounded and exact.
pub(super) fn bytes(bytes: u64) -> String {
    if bytes < 1024 { human_size(bytes) } else { format!("{} ({} bytes)", human_size(bytes), number(bytes)) }
}

/// Renders the commands that copy a path.
pub(super) fn copy_commands(path: &str, url: &str, keys: &[String]) -> [String; 2] {
    let option = |name: &str, value: &str| format!(" \\\n  --option {name} '{value}'");
    let of_keys = |name| if keys.is_empty() { String::new() } else { option(name, &keys.join(" ")) };
    // Nix 2.3 cannot add to this setting.
    let (more, all) = (of_keys("extra-trusted-public-keys"), of_keys("trusted-public-keys"));
    [
        format!("nix --extra-experimental-features nix-command copy \\\n  --from {url}{more} \\\n  {path}"),
        format!("nix-store --realise{}{all} \\\n  {path}", option("extra-substituters", url)),
    ]
}

/// Renders the references of a path by their base names.
pub(super) fn references(main: &mut String, own: &str, references: &[String]) {
    let others: Vec<_> = references.iter().filter(|name| *name != own).collect();
    let itself = if others.len() < references.len() { ", and to itself" } else { "" };
    let lead = match others.len() {
        0 if itself.is_empty() => "It has no references.".to_owned(),
        0 => "It refers only to itself.".to_owned(),
        1 => format!("It refers to one other path{itself}:"),
        many => format!("It refers to {} other paths{itself}:", number(many as u64)),
    };
    let _ = writeln!(main, "<section>\n<h2>References</h2>\n<p>{lead}</p>\n<ul>");
    for name in others.iter().take(MAX_REFERENCES) {
        let _ = writeln!(main, "<li>{}</li>", link(name));
    }
    main.push_str("</ul>\n");
    if others.len() > MAX_REFERENCES {
        let _ = writeln!(main, "<p>Only {MAX_REFERENCES} of them are shown; the narinfo lists all.</p>");
    }
    main.push_str("</section>\n");
}

/// Renders a base name as a link to the page about its path.
fn link(name: &str) -> String {
    format!("<a href=\"./{}\">{}</a>", encode_segment(name.as_bytes()), breakable(name))
}
