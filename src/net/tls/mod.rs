//! TLS for the listeners: certificate chain and private key from PEM files.

mod certificate;
mod error;
mod identity;
mod key_kind;

pub use certificate::CertificateInfo;
pub use error::TlsError;
pub use identity::Identity;
