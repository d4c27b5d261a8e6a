//! Names of users.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Maximum length of a name, in bytes; htpasswd has the same.
const MAX_LENGTH: usize = 255;

/// Name of a user: visible ASCII without `:`, which ends it in the file and in a request, and without `*`, which a grant
/// would take for a pattern. It does not begin with `#`, as comments do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Arc<str>);

/// Error of a text that is not a [`UserName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// The name is too long.
    #[error("the name is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// A character that no name may have.
    #[error("the name has the character {0:?}")]
    Character(char),
}

impl UserName {
    /// Returns the name as text that can be shared.
    #[must_use]
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        if text.is_empty() {
            return Err(UserNameError::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(UserNameError::TooLong);
        }
        // RFC 7617 leaves the encoding of other characters to a guess of the client.
        let is_allowed = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '*');
        match text.chars().find(|c| !is_allowed(*c)) {
            Some(c) => Err(UserNameError::Character(c)),
            None if text.starts_with('#') => Err(UserNameError::Character('#')),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_visible_ascii_that_ends_where_a_colon_stands() {
        for name in ["alice", "ci-2", "alice@example.org", r"CORP\alice", "a#b", &"a".repeat(255)] {
            assert_eq!(name.parse::<UserName>().unwrap().to_string(), name);
        }
        for (name, error) in [
            ("", UserNameError::Empty),
            (&"a".repeat(256), UserNameError::TooLong),
            ("a:b", UserNameError::Character(':')),
            ("*", UserNameError::Character('*')),
            ("#a", UserNameError::Character('#')),
            ("a b", UserNameError::Character(' ')),
            ("a\n", UserNameError::Character('\n')),
            ("a\0", UserNameError::Character('\0')),
            ("zoë", UserNameError::Character('ë')),
        ] {
            assert_eq!(name.parse::<UserName>(), Err(error), "{name:?}");
        }
    }
}
