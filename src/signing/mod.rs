//! Secret keys of this cache: which paths they sign, and which paths are trusted enough to be served.
//!
//! The signature format is in [`harmonia_protocol::signature`], the signed text (fingerprint) in its path info, the settings
//! in [`crate::config`]. Key names are unique, because clients trust one key per name (Nix keys `trusted-public-keys` by
//! name). No message and no `Debug` output holds a part of a secret key.

mod error;
mod key_file;
mod keys;
mod report;
mod signer;

pub(crate) use error::SigningKeyError;
pub(crate) use key_file::generate;
pub(crate) use keys::SigningKeys;
pub(crate) use report::{SignatureReport, SignatureStatus, Trust};
pub(crate) use signer::Signer;
