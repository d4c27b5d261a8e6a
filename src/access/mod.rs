//! Access: who a client is, and what it may do.
//!
//! Owns principals, what the grants of the configuration give them, and users with their passwords. Leaves reading requests
//! and refusing them to `http`, the verification of client certificates to `net`, and what is in a view to `store`.

mod granted;
#[allow(dead_code, unused_imports, reason = "requests are not yet checked")]
pub mod jwt;
mod principal;
pub mod users;

#[allow(unused_imports, reason = "views, uploads and the audit log will name them")]
pub(crate) use granted::{Granted, Visible};
#[allow(unused_imports, reason = "see above")]
pub(crate) use principal::Principal;

#[allow(unused_imports, reason = "see above")]
pub(crate) use crate::config::{PrincipalClass, Rights};
