//! Rights of a principal: `read`, `push` and `metrics`.

use std::fmt;
use std::str::FromStr;

/// Set of rights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights(u8);

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);
    /// Right to GET and HEAD what the cache serves.
    pub const READ: Self = Self(1);
    /// Right to add paths to the store.
    pub const PUSH: Self = Self(1 << 1);
    /// Right to GET `/metrics`.
    pub const METRICS: Self = Self(1 << 2);

    /// Names of the rights in the configuration file.
    const NAMES: [(&'static str, Self); 3] = [("read", Self::READ), ("push", Self::PUSH), ("metrics", Self::METRICS)];

    /// Returns whether all rights of `other` are in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the rights of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Rights {
    /// Writes the names of the rights, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES.iter().filter(|(_, right)| self.contains(*right)).map(|(name, _)| *name);
        f.write_str(names.next().unwrap_or("nothing"))?;
        names.try_for_each(|name| write!(f, ", {name}"))
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

/// Error of a text that is not the name of a right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a right\n  help: write \"read\", \"push\" or \"metrics\"")]
pub struct RightsError(String);

impl FromStr for Rights {
    type Err = RightsError;

    /// Parses the name of one right.
    fn from_str(text: &str) -> Result<Self, RightsError> {
        let named = Self::NAMES.iter().find(|(name, _)| *name == text);
        named.map(|(_, right)| *right).ok_or_else(|| RightsError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_unite_and_are_named() {
        let both = Rights::READ.union(Rights::METRICS);
        assert!(both.contains(Rights::READ) && both.contains(Rights::METRICS) && !both.contains(Rights::PUSH));
        assert!(both.contains(Rights::NONE) && !Rights::READ.contains(both));
        assert_eq!((both.to_string(), Rights::NONE.to_string()), ("read, metrics".into(), "nothing".into()));
        assert_eq!("push".parse(), Ok(Rights::PUSH));
        assert!("write".parse::<Rights>().unwrap_err().to_string().contains("\n  help: "));
    }
}
