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

keywords!(OnFailure, r#""refuse" or "warn""#, "refuse" => Refuse, "warn" => Warn);
