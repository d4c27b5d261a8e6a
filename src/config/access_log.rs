//! Access log settings: `[access_log]`.

use std::path::PathBuf;

use super::keyword::keywords;

/// File and format of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Path of the file; `None` for standard output.
    pub file: Option<PathBuf>,
    /// Format of a line.
    pub format: AccessLogFormat,
}

/// Format of a line of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessLogFormat {
    /// Combined Log Format, followed by further fields.
    #[default]
    Text,
    /// JSON object.
    Json,
}

keywords!(AccessLogFormat, r#""text" or "json""#, "text" => Text, "json" => Json);

impl AccessLogConfig {
    /// Resolves `[access_log]`. The log is written if `enable` is true, or absent and `file` is set.
    pub(super) fn resolve(
        enable: Option<bool>,
        file: Option<PathBuf>,
        format: Option<AccessLogFormat>,
    ) -> Option<Self> {
        enable.unwrap_or(file.is_some()).then(|| Self { file, format: format.unwrap_or_default() })
    }
}
