//! The findings of a check: good ones go to standard output, those that would keep harmonia from serving to the log.

use std::fmt;

use crate::error::Error;
use crate::output;
use crate::process::log;

/// Remembers the exit status of the first problem.
#[derive(Debug, Default)]
pub(super) struct Report {
    code: Option<u8>,
}

impl Report {
    /// Tells what was found.
    pub(super) fn line(text: fmt::Arguments<'_>) {
        output::line(text);
    }

    /// Tells why it would not serve, and goes on.
    pub(super) fn problem(&mut self, error: impl Into<Error>) {
        let error = error.into();
        for part in error.each() {
            log::fatal(part);
        }
        self.code.get_or_insert(error.exit_code());
    }

    /// The value, if there is one, or the problem otherwise.
    pub(super) fn keep<T, E: Into<Error>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problem(error)).ok()
    }

    /// Takes over problems that somebody else has told of, by their exit status.
    pub(super) fn told(&mut self, code: u8) {
        self.code.get_or_insert(code);
    }

    /// An error if there were problems.
    pub(super) fn end(self) -> Result<(), Error> {
        match self.code {
            None => Ok(()),
            Some(code) => Err(Error::WouldNotServe { code }),
        }
    }
}
