//! Errors of the files that say who may do what.

use super::jwt::JwtError;
use super::users::UsersError;

/// Reason why access cannot be configured as the file says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// An issuer of tokens cannot be used.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// The users file cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
}
