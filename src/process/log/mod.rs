//! The operator's log: to standard error, one line per event, with a `help:` line where there is something to do.
//!
//! Whatever peers, files or the system put into a message, it stays on the line of its event: that is seen to here for
//! all messages, besides where each of them is made.

mod recent;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use recent::{LogLine, RecentLines};

use crate::sync::LogThrottle;

/// The HTTP/2 library warns of what a client sends, a line for each frame if the client likes.
const DEFAULT: [&str; 2] = ["info", "h2=error"];
/// The level of all else, where a filter names other targets alone.
const LEAST: &str = "error";
/// What a message of this program begins its second line with.
const HELP: &str = "\n  help: ";

/// Starts logging at `info`, or as `RUST_LOG` says, panics among the rest. Under systemd's journal the lines carry no time
/// of their own.
///
/// Errors are logged unless the filter says `off`. Parts of it that are not understood are warned about, and then the rest is
/// at `info`.
///
/// Errors and warnings are kept in the result too.
#[must_use]
pub fn start() -> RecentLines {
    let chosen = std::env::var_os(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let Filter { directives, unknown } = Filter::of(&chosen.to_string_lossy());
    let filter = directives.into_iter().fold(EnvFilter::default(), EnvFilter::add_directive);
    let is_terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Events { is_terminal })
        .with_ansi(is_terminal)
        .with_target(false);
    let recent = RecentLines::default();
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().finish().with(recent.clone()).init();
    } else {
        builder.finish().with(recent.clone()).init();
    }
    // A panic that each request meets is one event.
    let panics = LogThrottle::default();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if let Some(more) = panics.admit(place.clone()) {
            tracing::error!("panicked at {place}{more}: {}", message(panic));
        }
    }));
    for part in unknown {
        tracing::warn!(
            "RUST_LOG: {part:?} is neither a level nor a filter\n  help: levels are error, warn, info, debug, trace and off; a filter is such as \"info,harmonia=debug\""
        );
    }
    recent
}

/// Writes why the program ends. Unlike other errors it is written whatever the filter says.
pub fn fatal(error: &dyn std::fmt::Display) {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{error}");
    } else {
        // Nothing is left to be told if that fails.
        let _ = writeln!(io::stderr(), "{}", on_its_line(&format!("ERROR {error}"), false));
    }
}

/// The filter of the log.
struct Filter {
    directives: Vec<Directive>,
    /// Parts of the text that are neither a level nor a filter.
    unknown: Vec<String>,
}

impl Filter {
    fn of(text: &str) -> Self {
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parse = |part: &str| part.parse::<Directive>().ok().filter(|_| is_level_or_filter(part));
        let unknown: Vec<_> = parts().filter(|part| parse(part).is_none()).map(str::to_owned).collect();
        let least: &[&str] = if parts().next().is_none() || !unknown.is_empty() { &DEFAULT } else { &[LEAST] };
        // Of two that are about the same the later holds.
        let directives = least.iter().copied().chain(parts()).filter_map(parse).collect();
        Self { directives, unknown }
    }
}

/// A bare word would be taken for the name of a module, of which all is logged, and nothing else is.
fn is_level_or_filter(part: &str) -> bool {
    let is_module = |part: &str| part.split("::").next() == Some(env!("CARGO_PKG_NAME"));
    part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok() || is_module(part)
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

/// Replaces what would end the line, move the cursor or turn the text around by escapes.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    on_its_line(text, false)
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
    fn errors_are_logged_unless_that_is_turned_off() {
        for (text, expected, unknown) in [
            ("", "info,h2=error", &[][..]),
            ("debug", "debug", &[]),
            ("off", "off", &[]),
            ("info, harmonia=debug", "info,harmonia=debug", &[]),
            ("harmonia::http", "error,harmonia::http", &[]),
            ("h2=trace", "error,h2=trace", &[]),
            ("verbose", "info,h2=error", &["verbose"]),
            ("warn,harmonia=loud,h2=off", "warn,h2=off", &["harmonia=loud"]),
        ] {
            let filter = Filter::of(text);
            assert_eq!(filter.unknown, unknown, "{text}");
            let built = filter.directives.into_iter().fold(EnvFilter::default(), EnvFilter::add_directive);
            let sorted = |text: &str| {
                let mut parts: Vec<_> = text.split(',').map(str::to_owned).collect();
                parts.sort();
                parts
            };
            let expected = EnvFilter::builder().parse(expected).unwrap();
            assert_eq!(sorted(&built.to_string()), sorted(&expected.to_string()), "{text}");
        }
    }

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
