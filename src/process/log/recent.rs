//! The last errors and warnings of the log, kept for people who ask what has gone wrong.
//!
//! They are the words of the log, escaped as there, and no more than a few dozen of a bounded length. Events of other levels
//! cost a comparison.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, MutexGuard};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::on_its_line;
use crate::sync::Mutex;

/// Lines that are kept.
const MAX_LINES: usize = 50;
/// Bytes of a line that are kept.
const MAX_BYTES: usize = 2 << 10;

/// A line of the log.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// The time at which it was written.
    pub time: SystemTime,
    /// Whether it is an error; otherwise it is a warning.
    pub is_error: bool,
    /// Its text, perhaps with a second line that says what to do.
    pub message: String,
}

/// The last errors and warnings. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RecentLines(Arc<Mutex<VecDeque<LogLine>>>);

impl RecentLines {
    /// All that are kept, the newest last.
    #[must_use]
    pub fn all(&self) -> Vec<LogLine> {
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
        // More is less severe.
        if level > Level::WARN {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let mut message = on_its_line(&(text.message + &text.fields), false).into_owned();
        if message.len() > MAX_BYTES {
            let end = (0..=MAX_BYTES).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
            message.truncate(end);
            message.push('…');
        }
        self.push(LogLine { time: SystemTime::now(), is_error: level == Level::ERROR, message });
    }
}

/// The text of an event.
#[derive(Default)]
struct Text {
    message: String,
    /// Its further fields, each after a space.
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
    fn the_last_errors_and_warnings_are_kept_and_no_control_characters() {
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
