//! Audit log settings: `[audit]`.

use std::path::PathBuf;

use super::keyword::keywords;

/// Destination of the audit log, and what happens if it cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// Path of the file; `None` for the log of the process, which is the journal for a service.
    pub file: Option<PathBuf>,
    /// Effect of an error of writing.
    pub on_failure: OnFailure,
}

/// Effect of an audit log that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Requests that would be entered are refused.
    Refuse,
    /// The error is logged, and requests are answered.
    #[default]
    Warn,
}

impl AuditConfig {
    /// Resolves `[audit]`. The log is written if the file has the table.
    pub(super) fn resolve(is_present: bool, file: Option<PathBuf>, on_failure: Option<OnFailure>) -> Option<Self> {
        is_present.then(|| Self { file, on_failure: on_failure.unwrap_or_default() })
    }
}

keywords!(OnFailure, r#""refuse" or "warn""#, "refuse" => Refuse, "warn" => Warn);
