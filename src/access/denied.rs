//! Reasons for which credentials are not accepted.

use super::credentials::CredentialsError;
use super::jwt::TokenError;
use crate::config::PrincipalClass;

/// Seconds after which a client should try again whose wrong passwords slow it down.
const THROTTLED_SECONDS: u32 = 1;

/// Reason why the credentials of a request are not accepted. Its text is a line for the person who sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// They cannot be read.
    #[error("{0}: check the user and password in netrc-file")]
    Malformed(#[from] CredentialsError),
    /// There is no such user, or the password is another.
    #[error("wrong user or password: check netrc-file on the client")]
    WrongPassword,
    /// Too many wrong passwords came from this address.
    #[error("too many wrong passwords: check netrc-file on the client and try again later")]
    Throttled,
    /// The token is not valid.
    #[error("{0}")]
    Token(TokenError),
}

impl Denied {
    /// Returns the class of the credentials, and the label of the reason in metrics.
    #[must_use]
    pub(crate) const fn labels(&self) -> (PrincipalClass, &'static str) {
        match self {
            Self::Malformed(_) => (PrincipalClass::Anonymous, "malformed"),
            Self::WrongPassword => (PrincipalClass::User, "wrong"),
            Self::Throttled => (PrincipalClass::User, "throttled"),
            Self::Token(TokenError::KeysPending { .. }) => (PrincipalClass::Jwt, "pending"),
            Self::Token(_) => (PrincipalClass::Jwt, "wrong"),
        }
    }

    /// Returns the seconds after which the same credentials may be accepted, if waiting helps.
    #[must_use]
    pub(crate) const fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Throttled => Some(THROTTLED_SECONDS),
            Self::Token(TokenError::KeysPending { retry_after }) => Some(*retry_after),
            Self::Malformed(_) | Self::WrongPassword | Self::Token(_) => None,
        }
    }
}
