//! All that is wrong with a configuration: one look at it tells everything that has to be mended.

use std::fmt;

use super::ConfigError;

/// Reasons why there is no usable configuration: one at least.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Each of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.iter().enumerate() {
            write!(f, "{}{error}", if number == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Errors that are found one after the other.
#[derive(Debug, Default)]
pub(super) struct Collected(Vec<ConfigError>);

impl Collected {
    pub(super) fn push(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    /// The value, if there is one. The error otherwise is kept.
    pub(super) fn keep<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// The last value, if neither it nor anything before it is an error.
    pub(super) fn end<T>(mut self, last: Result<T, ConfigError>) -> Result<T, ConfigErrors> {
        match self.keep(last) {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "worker = 4\npriority = -1\n[zstd]\nlevel = \"3\"\nwindow_log = 9\n";
        let lines: Vec<_> =
            message(text).lines().filter(|line| !line.starts_with("  help: ")).map(str::to_owned).collect();
        let keys = ["1: unknown key \"worker\"", "2: priority: ", "4: zstd.level: ", "5: zstd.window_log: "];
        assert_eq!(lines.len(), keys.len());
        for (line, key) in lines.iter().zip(keys) {
            assert!(line.starts_with(&format!("config.toml:{key}")), "{line}");
        }
        let contradictions =
            message("serve_untrusted = false\ntls_key_path = \"/k\"\ndaemon_socket = \"/s\"\ndaemon_command = \"d\"");
        for contradiction in ["tls_key_path is set without", "every path is signed", "are both set"] {
            assert!(contradictions.contains(contradiction), "{contradictions}");
        }
    }
}
