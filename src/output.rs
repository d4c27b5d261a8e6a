//! Standard output of commands.
//!
//! The reader may stop early (`harmonia check | head -1`). That is no error and does not interrupt a command: the rest of its
//! output is dropped, and its exit status stays the same.

use std::fmt;
use std::io::{self, Write as _};

/// Prints and flushes a line. A failure, because of a full disk for example, is logged.
pub(crate) fn line(text: impl fmt::Display) {
    print(format_args!("{text}\n"));
}

/// Prints and flushes a text as `line` does, without adding a line break.
pub(crate) fn print(text: impl fmt::Display) {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => tracing::error!("cannot write to standard output: {error}"),
    }
}

/// Renders a number with its noun: `1 client`, `2 clients`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
