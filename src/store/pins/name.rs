//! Names of pins, which are names of directories.

use std::fmt;
use std::str::FromStr;

/// Upper bound of a name, in bytes.
const MAX: usize = 64;

/// Name of a pin: letters, digits, `.`, `_` and `-`, the first neither `.` nor `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PinName(String);

/// Error of a text that is no name of a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a pin\n  help: use up to {MAX} of A-Z, a-z, 0-9, ., _ and -, and begin with none of . and -"
)]
pub(crate) struct PinNameError(String);

impl PinName {
    /// Returns the text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PinName {
    type Err = PinNameError;

    fn from_str(text: &str) -> Result<Self, PinNameError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=MAX).contains(&text.len()) && text.bytes().all(is_allowed) && !text.starts_with(['.', '-']);
        if is_name {
            return Ok(Self(text.to_owned()));
        }
        // A longer text would fill the terminal.
        Err(PinNameError(text.chars().take(2 * MAX).collect()))
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_safe_component_of_a_path() {
        for name in ["a", "web-1.2_x", "A", "0", &"x".repeat(64)] {
            assert_eq!(name.parse::<PinName>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", ".a", "-a", "a/b", "/", "a b", "a\n", "a\0", "é", "*", &"x".repeat(65)] {
            let error = name.parse::<PinName>().unwrap_err().to_string();
            assert!(error.contains("cannot be the name of a pin\n  help: use up to 64 of"), "{error}");
        }
    }
}
