//! Access: who a client is, and what it may do.
//!
//! Owns principals, what the grants of the configuration give them, users with their passwords, and the
//! verification of what clients send as credentials. Leaves refusing requests to `http`, the verification of client certificates to `net`, and what is in a view to `store`.

pub mod credentials;
mod denied;
mod error;
mod granted;
pub mod jwt;
mod policy;
mod principal;
mod state;
pub mod users;

pub(crate) use denied::Denied;
pub(crate) use error::AccessError;
pub(crate) use granted::{Granted, Visible};
pub(crate) use principal::Principal;
pub(crate) use state::Access;

pub(crate) use crate::config::Rights;
