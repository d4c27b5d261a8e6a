//! Text in HTML, so that it is never markup.

use std::fmt;

/// `text` as the content of an element or of a quoted attribute.
pub(in crate::http) fn escape(text: &str) -> impl fmt::Display {
    Escaped(text)
}

struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_becomes_text() {
        let text = escape("<a href='x' title=\"y\">R&amp;D é</a>").to_string();
        assert_eq!(text, "&lt;a href=&#39;x&#39; title=&quot;y&quot;&gt;R&amp;amp;D é&lt;/a&gt;");
    }

    proptest! {
        #[test]
        fn what_was_escaped_holds_no_markup_and_can_be_read_back(text in "\\PC*") {
            let escaped = escape(&text).to_string();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
            let back = entities.iter().fold(escaped, |text, (entity, plain)| text.replace(entity, plain));
            prop_assert_eq!(back, text);
        }
    }
}
