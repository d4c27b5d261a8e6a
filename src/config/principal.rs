//! Classes of principals, and the patterns that name principals in grants.
//!
//! Leaves who a client is to [`crate::access`].

use std::fmt;
use std::str::FromStr;

/// Class of a principal: the kind of credentials by which it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalClass {
    /// No credentials.
    Anonymous,
    /// Name and password.
    User,
    /// Client certificate.
    Certificate,
    /// JSON Web Token.
    Jwt,
}

impl PrincipalClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Anonymous, Self::User, Self::Certificate, Self::Jwt];

    /// Returns the word for the class in patterns, names and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::User => "user",
            Self::Certificate => "cert",
            Self::Jwt => "jwt",
        }
    }
}

/// Pattern of principals of one class; `*` in the name matches any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalPattern {
    class: PrincipalClass,
    name: String,
}

impl PrincipalPattern {
    /// Returns the class of the principals that match.
    #[must_use]
    pub const fn class(&self) -> PrincipalClass {
        self.class
    }

    /// Returns whether a principal of this class and name matches. An anonymous principal has an empty name.
    #[must_use]
    pub fn matches(&self, class: PrincipalClass, name: &str) -> bool {
        self.class == class && glob_matches(&self.name, name)
    }
}

/// Returns whether `text` matches a pattern in which `*` stands for any characters. Takes linear time in the product of the
/// lengths at most.
fn glob_matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut middle: Vec<_> = parts.collect();
    // Without a star the whole text was the first part.
    let Some(last) = middle.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Error of a text that is not a [`PrincipalPattern`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} names no principal\n  help: write \"user:NAME\", \"cert:NAME\", \"jwt:NAME\", where * matches any characters, or \
     \"anonymous\""
)]
pub struct PrincipalPatternError(String);

impl FromStr for PrincipalPattern {
    type Err = PrincipalPatternError;

    fn from_str(text: &str) -> Result<Self, PrincipalPatternError> {
        let error = || PrincipalPatternError(text.to_owned());
        if text == PrincipalClass::Anonymous.label() {
            return Ok(Self { class: PrincipalClass::Anonymous, name: String::new() });
        }
        let (label, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(error)?;
        let named = |class: &PrincipalClass| *class != PrincipalClass::Anonymous && class.label() == label;
        let class = PrincipalClass::ALL.into_iter().find(named).ok_or_else(error)?;
        Ok(Self { class, name: name.to_owned() })
    }
}

impl fmt::Display for PrincipalPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class.label())?;
        if self.class == PrincipalClass::Anonymous { Ok(()) } else { write!(f, ":{}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_names_of_its_class_alone() {
        let matches = |pattern: &str, class, name| pattern.parse::<PrincipalPattern>().unwrap().matches(class, name);
        for (pattern, name, expected) in [
            ("jwt:acme/*", "acme/app", true),
            ("jwt:acme/*", "acme/", true),
            ("jwt:acme/*", "acme", false),
            ("jwt:acme/*", "evil/acme/app", false),
            ("jwt:*", "anything", true),
            ("jwt:*/app", "acme/app", true),
            ("jwt:*/app", "acme/app2", false),
            ("jwt:a*b*c", "a-b-c", true),
            ("jwt:a*b*c", "a-c-b", false),
            ("jwt:ab*ba", "aba", false),
            ("jwt:acme", "acme", true),
            ("jwt:acme", "acme2", false),
            ("jwt:repo:x", "repo:x", true),
        ] {
            assert_eq!(matches(pattern, PrincipalClass::Jwt, name), expected, "{pattern} {name}");
            assert!(!matches(pattern, PrincipalClass::User, name), "{pattern} {name}");
        }
        assert!(matches("anonymous", PrincipalClass::Anonymous, ""));
        assert!(!matches("anonymous", PrincipalClass::User, "") && !matches("user:*", PrincipalClass::Anonymous, ""));
    }

    #[test]
    fn what_names_no_principal_is_refused() {
        for text in ["", "alice", "user:", "group:a", "anonymous:", "anonymous:x", "User:a", ":a", "*"] {
            let error = text.parse::<PrincipalPattern>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} names no principal\n  help: ")), "{error}");
        }
        for text in ["anonymous", "user:alice", "cert:*", "jwt:acme/*"] {
            assert_eq!(text.parse::<PrincipalPattern>().unwrap().to_string(), text);
        }
    }
}
