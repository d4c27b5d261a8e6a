//! Findings of a check: good ones go to standard output, problems to the log.

use std::fmt;

use crate::error::Error;
use crate::output;
use crate::process::log;

/// Holds the exit status of the first problem.
#[derive(Debug, Default)]
pub(super) struct Report {
    code: Option<u8>,
}

impl Report {
    /// Prints a finding.
    pub(super) fn line(text: fmt::Arguments<'_>) {
        output::line(text);
    }

    /// Logs a problem.
    pub(super) fn problem(&mut self, error: impl Into<Error>) {
        let error = error.into();
        for part in error.each() {
            log::fatal(part);
        }
        self.code.get_or_insert(error.exit_code());
    }

    /// Returns the value, or logs the error as a problem.
    pub(super) fn ok<T, E: Into<Error>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problem(error)).ok()
    }

    /// Records the exit status of problems that another process has logged.
    pub(super) fn failed(&mut self, code: u8) {
        self.code.get_or_insert(code);
    }

    /// Returns an error if there were problems.
    pub(super) fn finish(self) -> Result<(), Error> {
        match self.code {
            None => Ok(()),
            Some(code) => Err(Error::WouldNotServe { code }),
        }
    }
}
