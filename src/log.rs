//! The operator's log: to standard error, one line per event, with a `help:` line where there is something to do.
//!
//! Whatever peers, files or the system put into a message, it stays on the line of its event: that is seen to here for
//! all messages, besides where each of them is made.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::log_throttle::LogThrottle;

/// The HTTP/2 library warns of what a client sends, a line for each frame if the client likes.
const DEFAULT: &str = "info,h2=error";
/// What a message of this program begins its second line with.
const HELP: &str = "\n  help: ";

/// Starts logging at `info`, or as `RUST_LOG` says, panics among the rest. Under systemd's journal the lines carry no time
/// of their own.
pub fn start() {
    let chosen = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = filter.parse_lossy(if chosen.is_empty() { DEFAULT } else { &chosen });
    let is_terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Events { is_terminal })
        .with_ansi(is_terminal)
        .with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().init();
    } else {
        builder.init();
    }
    // A panic that each request meets is one event.
    let panics = LogThrottle::default();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if let Some(more) = panics.admit(place.clone()) {
            tracing::error!("panicked at {place}{more}: {}", message(panic));
        }
    }));
}

fn message<'p>(panic: &'p PanicHookInfo<'_>) -> &'p str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Standard error. Each event is written to it at once, with a line feed at its end.
struct Events {
    is_terminal: bool,
}

impl Write for Events {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(on_its_line(&String::from_utf8_lossy(event), self.is_terminal).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The event without what would end its line, move the cursor or turn the text around; as an escape in its place. The
/// colours of a terminal are the subscriber's own: it escapes those of a message itself.
fn on_its_line(event: &str, is_coloured: bool) -> Cow<'_, str> {
    let (text, end) = event.strip_suffix('\n').map_or((event, ""), |text| (text, "\n"));
    let is_harmful = |character: char| match character {
        '\u{1b}' => !is_coloured,
        // Line and paragraph separators, and what changes the direction of text.
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
    fn help_lines_stay_and_others_do_not() {
        let ours = "INFO cannot start: no key\n  help: make one\n";
        assert_eq!(on_its_line(ours, false), ours);
        assert_eq!(
            on_its_line("a\nINFO forged\r\x1b[2K\u{85}\u{202e}\n", false),
            "a\\nINFO forged\\r\\u{1b}[2K\\u{85}\\u{202e}\n"
        );
        assert_eq!(on_its_line("\x1b[32m INFO\x1b[0m größe\n", true), "\x1b[32m INFO\x1b[0m größe\n");
    }

    proptest! {
        #[test]
        fn an_event_is_one_line(text in "(\\PC|[\\x00-\\x1f\\x7f-\\x9f\u{2028}\u{202e}]|\n  help: ){0,40}") {
            let event = format!("{text}\n");
            let line = on_its_line(&event, false);
            let rest = line.strip_suffix('\n').unwrap().replace(HELP, "");
            prop_assert!(!rest.contains(|c: char| c.is_control() || "\u{2028}\u{202e}".contains(c)), "{line:?}");
        }
    }
}
