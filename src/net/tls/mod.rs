//! TLS for the listeners: certificate chain and private key from PEM files.

mod certificate;
mod error;
mod identity;
mod key_kind;

pub(crate) use error::TlsError;
pub(crate) use identity::Identity;
