//! Name of this host in the bucket: `bucket.host`.

use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes: that of a label in DNS.
const MAX: usize = 63;

/// Error of a text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a host\n  help: use letters, digits, dots, hyphens and underscores, 63 at most, none but letters and digits at the start"
)]
pub struct HostNameError(String);

/// Name of a host, by which its objects in the bucket are told from those of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Box<str>);

impl HostName {
    /// Returns the name of this machine, as far as the system has one that can be used: up to the first dot.
    pub(super) fn of_this_machine() -> Result<Self, HostNameError> {
        let uname = rustix::system::uname();
        let name = uname.nodename().to_string_lossy();
        name.split('.').next().unwrap_or_default().parse()
    }

    /// Returns the name under which a command fills a directory that no host publishes into.
    #[must_use]
    pub fn mirror() -> Self {
        Self("mirror".into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if starts && text.len() <= MAX && text.bytes().all(named) {
            Ok(Self(text.into()))
        } else {
            Err(HostNameError(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        for name in ["builder1", "a", "Build-2.example_x", &"x".repeat(63)] {
            assert_eq!(name.parse::<HostName>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "-a", "_a", "a/b", "a b", "é", "a\n", &"x".repeat(64)] {
            assert!(name.parse::<HostName>().is_err(), "{name:?}");
        }
    }
}
