//! Operations of nix-daemon that a cache needs.
//!
//! An [`Operation`] encodes its request and decodes its reply in the protocol version of a [`Session`]; a
//! [`Client`] sends and receives them. Transfers of NARs are not operations of this kind: see [`NarStream`] and
//! [`Upload`].
//!
//! Source: Nix `src/libstore/worker-protocol.hh` (numbers) and `src/libstore/daemon.cc` (arguments and replies).
//!
//! [`Session`]: crate::session::Session
//! [`Client`]: crate::client::Client
//! [`NarStream`]: crate::client::NarStream
//! [`Upload`]: crate::client::Upload

mod codec;
mod missing;
mod opcode;
mod query;
mod realisation;
mod roots;
mod single_path;

pub use codec::Operation;
pub use missing::{DerivedPath, Missing, OutputsSpec, QueryMissing};
pub use opcode::{Opcode, UnsupportedOperation};
pub use query::{QueryAllValidPaths, QueryDerivationOutputMap, QueryPathFromHashPart, QueryValidPaths};
pub use realisation::QueryRealisation;
pub use roots::{AddIndirectRoot, FindRoots, Root};
pub use single_path::{AddTempRoot, EnsurePath, IsValidPath, QueryPathInfo, QueryReferrers, QueryValidDerivers};
