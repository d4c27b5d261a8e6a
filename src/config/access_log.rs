//! The access log as it is configured.

use std::path::PathBuf;

use super::file::ConfigFile;
use super::keyword::keywords;

/// An access log that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The file; `None` for standard output.
    pub file: Option<PathBuf>,
    /// The form of a line.
    pub format: AccessLogFormat,
}

/// The form of a line of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessLogFormat {
    /// The Combined Log Format, with further fields behind it.
    #[default]
    Text,
    /// An object of JSON.
    Json,
}

keywords!(AccessLogFormat, r#""text" or "json""#, "text" => Text, "json" => Json);

/// The access log of a file, which is on if that says so, or names where it is written.
pub(super) fn access_log(file: &mut ConfigFile) -> Option<AccessLogConfig> {
    let path = file.access_log_file.take();
    let is_on = file.access_log_enable.unwrap_or(path.is_some());
    is_on.then(|| AccessLogConfig { file: path, format: file.access_log_format.unwrap_or_default() })
}
