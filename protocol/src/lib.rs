//! What Nix specifies for a binary cache's server: the worker protocol of nix-daemon, the types that it speaks in,
//! NAR and narinfo. No HTTP, no configuration.
//!
//! From the bottom up:
//!
//! - [`nix32`], [`hash`], [`store_path`], [`signature`], [`signature_set`], [`content_address`], [`content_check`],
//!   [`realisation`], [`path_info`]: values that cannot be malformed;
//! - [`narinfo`], [`nar`]: the two formats of a binary cache, rendered, parsed and indexed;
//! - [`wire`], [`version`], [`handshake`], [`stderr`], [`operation`]: the protocol, without I/O. Bytes are pushed in
//!   as they come, cut anywhere, and every length in them has a cap;
//! - [`client`]: the protocol over any [`AsyncRead`](tokio::io::AsyncRead) + [`AsyncWrite`](tokio::io::AsyncWrite).
//!
//! Spoken to are daemons of protocol 1.21 (Nix 2.1) to 1.38 and later (Nix 2.36, Lix, Determinate Nix); this client
//! claims 1.38 and offers only the features that it decodes.
//!
//! # Example
//!
//! `cargo run -p harmonia-protocol --example dump -- /nix/store/…` connects to the machine's daemon and writes a
//! path's NAR to its output; in short:
//!
//! ```no_run
//! use harmonia_protocol::client::{Client, NarStream};
//! use harmonia_protocol::StoreDir;
//!
//! # async fn dump() -> Result<(), Box<dyn std::error::Error>> {
//! let socket = tokio::net::UnixStream::connect("/nix/var/nix/daemon-socket/socket").await?;
//! let store = StoreDir::default();
//! let mut client = Client::connect(socket, store.clone()).await?;
//! let path = store.parse("/nix/store/lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello")?;
//! if let Some(info) = client.query_path_info(&path).await? {
//!     let mut nar = NarStream::open(&mut client, &path, info.nar_size).await?;
//!     while let Some(bytes) = nar.chunk().await? {
//!         println!("{} bytes", bytes.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

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
