//! TLS for the listeners: the server's certificate and key, and the authorities of client certificates, from PEM files.
//!
//! TLS 1.2 and 1.3 with ring, `h2` and `http/1.1` by ALPN (RFC 7301).

mod certificate;
mod client_ca;
mod client_name;
mod error;
mod identity;
mod key_kind;
mod server;

pub(crate) use client_ca::ClientCa;
pub(crate) use error::TlsError;
pub(crate) use identity::Identity;
pub(crate) use server::TlsServer;
