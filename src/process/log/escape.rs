//! Keeps each event on its own line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Start of the second line of a message.
const HELP: &str = "\n  help: ";

/// Writes events to standard error, with control characters escaped. Each write is one event, ending in a line feed.
pub(super) struct EscapingWriter {
    pub(super) is_terminal: bool,
}

impl Write for EscapingWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(escape_event(&String::from_utf8_lossy(event), self.is_terminal).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Escapes characters that would end the line, move the cursor or change the direction of text.
#[must_use]
pub(crate) fn escape_controls(text: &str) -> Cow<'_, str> {
    escape_event(text, false)
}

/// Escapes the control characters of an event, except the line feeds at its end and before `help:`. On a terminal the
/// subscriber adds colours, and escapes those of a message itself.
pub(super) fn escape_event(event: &str, is_coloured: bool) -> Cow<'_, str> {
    let (text, end) = event.strip_suffix('\n').map_or((event, ""), |text| (text, "\n"));
    let is_harmful = |character: char| match character {
        '\u{1b}' => !is_coloured,
        // Line and paragraph separators, and directional formatting.
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => true,
        character => character.is_control(),
    };
    if !text.contains(is_harmful) {
        return event.into();
    }
    let mut line = String::with_capacity(event.len() + 16);
    for (at, character) in text.char_indices() {
        if is_harmful(character) && !text[at..].starts_with(HELP) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.push_str(end);
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn help_lines_are_kept_and_other_line_feeds_escaped() {
        let ours = "INFO cannot start: no key\n  help: make one\n";
        assert_eq!(escape_event(ours, false), ours);
        assert_eq!(
            escape_event("a\nINFO forged\r\x1b[2K\u{85}\u{202e}\n", false),
            "a\\nINFO forged\\r\\u{1b}[2K\\u{85}\\u{202e}\n"
        );
        assert_eq!(escape_event("\x1b[32m INFO\x1b[0m größe\n", true), "\x1b[32m INFO\x1b[0m größe\n");
    }

    proptest! {
        #[test]
        fn an_event_is_one_line(text in "(\\PC|[\\x00-\\x1f\\x7f-\\x9f\u{2028}\u{202e}]|\n  help: ){0,40}") {
            let event = format!("{text}\n");
            let line = escape_event(&event, false);
            let rest = line.strip_suffix('\n').unwrap().replace(HELP, "");
            prop_assert!(!rest.contains(|c: char| c.is_control() || "\u{2028}\u{202e}".contains(c)), "{line:?}");
        }
    }
}
