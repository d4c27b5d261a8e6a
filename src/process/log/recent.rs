//! The last errors and warnings of the log, for `harmonia status`.
//!
//! They have the text of the log, escaped as there; their number and length are limited. Events of other levels cost a
//! comparison.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, MutexGuard};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::escape::escape_event;
use crate::sync::Mutex;

/// Maximum number of lines.
const MAX_LINES: usize = 50;
/// Maximum length of a line, in bytes.
const MAX_BYTES: usize = 2 << 10;

/// A line of the log.
#[derive(Debug, Clone)]
pub(crate) struct LogLine {
    /// Time at which it was logged.
    pub time: SystemTime,
    /// Whether it is an error rather than a warning.
    pub is_error: bool,
    /// Its text, which may have a second line with help.
    pub message: String,
}

/// The last errors and warnings. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentLines(Arc<Mutex<VecDeque<LogLine>>>);

impl RecentLines {
    /// Returns all lines, the newest last.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<LogLine> {
        self.lines().iter().cloned().collect()
    }

    fn push(&self, line: LogLine) {
        let mut lines = self.lines();
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<LogLine>> {
        self.0.lock()
    }
}

impl<S: Subscriber> Layer<S> for RecentLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        // A greater level is less severe.
        if level > Level::WARN {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let mut message = escape_event(&(text.message + &text.fields), false).into_owned();
        if message.len() > MAX_BYTES {
            let end = (0..=MAX_BYTES).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
            message.truncate(end);
            message.push('…');
        }
        self.push(LogLine { time: SystemTime::now(), is_error: level == Level::ERROR, message });
    }
}

/// Text of an event.
#[derive(Default)]
struct Text {
    message: String,
    /// Other fields, each after a space.
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn the_last_errors_and_warnings_are_recorded_without_control_characters() {
        let recent = RecentLines::default();
        let subscriber = tracing_subscriber::registry().with(recent.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("quiet");
            for number in 0..MAX_LINES {
                tracing::warn!(number, "low {}", "a\x1b[2K\nb");
            }
            tracing::error!("{}\n  help: wait", "x".repeat(2 * MAX_BYTES));
        });
        let lines = recent.all();
        assert_eq!(lines.len(), MAX_LINES);
        assert_eq!(lines[0].message, "low a\\u{1b}[2K\\nb number=1");
        let last = &lines[MAX_LINES - 1];
        assert!(last.is_error && last.message.len() <= MAX_BYTES + 3 && last.message.ends_with('…'));
    }
}
