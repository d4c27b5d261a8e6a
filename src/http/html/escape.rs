//! Escapes text for HTML.

/// Escapes text for its use between tags or in a quoted attribute. Control characters become the replacement character.
pub(crate) fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c if c.is_control() => html.push(char::REPLACEMENT_CHARACTER),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_becomes_text() {
        let text = escape("<a href='x' title=\"y\">R&amp;D é</a>");
        assert_eq!(text, "&lt;a href=&#39;x&#39; title=&quot;y&quot;&gt;R&amp;amp;D é&lt;/a&gt;");
    }

    proptest! {
        #[test]
        fn escaped_text_contains_no_markup_and_can_be_unescaped(text in "\\PC*") {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
            let back = entities.iter().fold(escaped, |text, (entity, plain)| text.replace(entity, plain));
            prop_assert_eq!(back, text);
        }
    }
}
