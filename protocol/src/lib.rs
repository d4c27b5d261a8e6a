#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! From the bottom up; each module uses only those above it.
//!
//! - [`nix32`], [`hash`], [`store_path`], [`signature`], [`signature_set`], [`content_address`], [`path_info`],
//!   [`derivation_output`], [`realisation`]: values that cannot be malformed;
//! - [`nar`], [`narinfo`], [`content_check`]: the two file formats of a binary cache, and whether a NAR has the contents
//!   that a content address names;
//! - [`wire`], [`version`], [`session`], [`handshake`], [`stderr`], [`operation`]: the worker protocol without I/O. Bytes
//!   may be cut anywhere, and every length in them has an upper bound;
//! - [`error`], [`client`]: the worker protocol over any [`AsyncRead`](tokio::io::AsyncRead) +
//!   [`AsyncWrite`](tokio::io::AsyncWrite).

mod base64;
pub mod client;
pub mod content_address;
pub mod content_check;
pub mod derivation_output;
pub mod error;
pub mod handshake;
pub mod hash;
pub mod nar;
pub mod narinfo;
pub mod nix32;
pub mod operation;
pub mod path_info;
pub mod realisation;
pub mod session;
pub mod signature;
pub mod signature_set;
pub mod stderr;
pub mod store_path;
pub mod version;
pub mod wire;

pub use client::Client;
pub use error::ClientError;
pub use store_path::{HashPart, StoreDir, StorePath};
