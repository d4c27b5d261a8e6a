//! Principals: who makes a request.

use std::fmt;
use std::sync::Arc;

use crate::config::PrincipalClass;

/// Who makes a request, as its credentials prove.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Principal {
    /// A client without credentials.
    Anonymous,
    /// User of the users file.
    User(Arc<str>),
    /// Name in a verified client certificate.
    Certificate(Arc<str>),
    /// Name in a verified JSON Web Token.
    Jwt(Arc<str>),
}

impl Principal {
    /// Returns the class, which is all that metrics tell.
    #[must_use]
    pub(crate) const fn class(&self) -> PrincipalClass {
        match self {
            Self::Anonymous => PrincipalClass::Anonymous,
            Self::User(_) => PrincipalClass::User,
            Self::Certificate(_) => PrincipalClass::Certificate,
            Self::Jwt(_) => PrincipalClass::Jwt,
        }
    }

    /// Returns the name within the class, which is empty for an anonymous client.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Anonymous => "",
            Self::User(name) | Self::Certificate(name) | Self::Jwt(name) => name,
        }
    }
}

impl fmt::Display for Principal {
    /// Writes `anonymous`, `user:alice`, `cert:builder1` or `jwt:acme/app`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class().label())?;
        if matches!(self, Self::Anonymous) { Ok(()) } else { write!(f, ":{}", self.name()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_written_as_the_pattern_that_names_it() {
        for (principal, text) in [
            (Principal::Anonymous, "anonymous"),
            (Principal::User("alice".into()), "user:alice"),
            (Principal::Certificate("builder1".into()), "cert:builder1"),
            (Principal::Jwt("acme/app".into()), "jwt:acme/app"),
        ] {
            assert_eq!(principal.to_string(), text);
            let pattern: crate::config::PrincipalPattern = text.parse().unwrap();
            assert!(pattern.matches(principal.class(), principal.name()), "{text}");
        }
    }
}
