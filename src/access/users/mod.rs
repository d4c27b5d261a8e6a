//! Users: the users file, and the verification of names and passwords.
//!
//! Owns the format of the file (htpasswd with bcrypt alone), its edits by `harmonia user`, and what verifying costs: bcrypt
//! runs on few threads, a right password is remembered, a wrong one slows its address down. Leaves the header that carries
//! names and passwords, and the response to wrong ones, to `http`.

mod error;
mod failures;
mod file;
pub mod htpasswd;
mod password_hash;
mod remembered;
mod user_name;
mod verification;

pub(crate) use error::UsersError;
pub(crate) use file::{Change, UsersFile};
pub(crate) use password_hash::{MAX_PASSWORD, MIN_PASSWORD, PasswordError, PasswordHash};
pub(crate) use user_name::{UserName, UserNameError};
pub(crate) use verification::{PasswordCheck, Users};
