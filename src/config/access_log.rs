//! The access log as it is configured.

use std::path::PathBuf;
use std::str::FromStr;

use super::file::ConfigFile;

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

/// A text is not an [`AccessLogFormat`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected \"text\" or \"json\", found {0:?}")]
pub struct AccessLogFormatError(String);

impl FromStr for AccessLogFormat {
    type Err = AccessLogFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(AccessLogFormatError(text.to_owned())),
        }
    }
}

/// The access log of a file, which is on if that says so, or names where it is written.
pub(super) fn access_log(file: &mut ConfigFile) -> Option<AccessLogConfig> {
    let path = file.access_log_file.take();
    let is_on = file.access_log_enable.unwrap_or(path.is_some());
    is_on.then(|| AccessLogConfig { file: path, format: file.access_log_format.unwrap_or_default() })
}
