//! Standard output: what a command was asked to tell, besides the log.
//!
//! Whoever reads it may stop (`harmonia check | head -1`). That is no error, and no reason to leave a command undone: the
//! rest is dropped, and the exit status is what it would have been.

use std::fmt;
use std::io::{self, Write as _};

/// Prints a line, at once. What cannot be written, because of a full disk, say, is an error in the log.
pub fn line(text: impl fmt::Display) {
    print(format_args!("{text}\n"));
}

/// Prints a text as [`line()`] does, with no line break of its own.
pub fn print(text: impl fmt::Display) {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => tracing::error!("cannot write to standard output: {error}"),
    }
}
