//! The operations that a cache sends, one layout each per version.
//!
//! An [`Operation`] knows its request's bytes and its reply's layout in a [`Session`]; moving the bytes is for
//! [`crate::client`]. NARs are not replies of this kind: see [`crate::client::NarStream`] and [`crate::client::Upload`].
//! (Nix `src/libstore/worker-protocol.hh` for the numbers, `daemon.cc` for the layouts.)

/// An operation whose only argument is a valid-looking path: most are.
macro_rules! single_path_operation {
    ($(#[$doc:meta])* $name:ident -> $reply:ty, $layout:expr, $decode:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<'a>(pub &'a StorePath);

        impl Operation for $name<'_> {
            type Reply = $reply;
            const OPCODE: Opcode = Opcode::$name;

            fn encode(&self, session: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation> {
                put_path(out, session, self.0);
                Ok(())
            }

            fn reply_schema(&self, _: &Session) -> Schema {
                const { &[$layout] }
            }

            fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<$reply, DecodeError> {
                let decode: fn(&Session, &mut Reader<'_>) -> Result<$reply, DecodeError> = $decode;
                decode(session, reader)
            }
        }
    };
}

mod query;
mod realisation;
mod roots;

use bytes::BytesMut;

pub use query::{
    DerivedPath, IsValidPath, Missing, OutputsSpec, QueryAllValidPaths, QueryDerivationOutputMap, QueryMissing,
    QueryPathFromHashPart, QueryPathInfo, QueryReferrers, QueryValidDerivers, QueryValidPaths,
};
pub use realisation::QueryRealisation;
pub use roots::{AddTempRoot, EnsurePath, FindRoots, Root};

use crate::handshake::Session;
use crate::store_path::StorePath;
use crate::version::Version;
use crate::wire::{DecodeError, Reader, Schema, put_bytes};

/// The cap of a reply in bytes: a path info with half a million references, more than any store path has.
const MAX_REPLY: usize = 64 * 1024 * 1024;

/// The number by which the daemon knows an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u64)]
#[allow(missing_docs)] // the names are the protocol's own
pub enum Opcode {
    IsValidPath = 1,
    QueryReferrers = 6,
    EnsurePath = 10,
    AddTempRoot = 11,
    FindRoots = 14,
    QueryAllValidPaths = 23,
    QueryPathInfo = 26,
    QueryPathFromHashPart = 29,
    QueryValidPaths = 31,
    QueryValidDerivers = 33,
    NarFromPath = 38,
    AddToStoreNar = 39,
    QueryMissing = 40,
    QueryDerivationOutputMap = 41,
    QueryRealisation = 43,
    AddMultipleToStore = 44,
}

impl Opcode {
    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        self as u64
    }

    /// Whether the connection is in step after one error, given that every path that was sent is well-formed.
    #[must_use]
    pub const fn survives_error(self) -> bool {
        match self {
            Self::IsValidPath
            | Self::QueryReferrers
            | Self::EnsurePath
            | Self::AddTempRoot
            | Self::FindRoots
            | Self::QueryAllValidPaths
            | Self::QueryPathInfo
            | Self::QueryPathFromHashPart
            | Self::QueryValidPaths
            | Self::QueryValidDerivers
            | Self::QueryMissing
            | Self::QueryDerivationOutputMap => true,
            Self::NarFromPath | Self::AddToStoreNar | Self::QueryRealisation | Self::AddMultipleToStore => false,
        }
    }
}

/// An operation that the daemon of this session does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the nix daemon (protocol {version}) has no {opcode:?}")]
pub struct UnsupportedOperation {
    /// What was to be sent.
    pub opcode: Opcode,
    /// The session's version.
    pub version: Version,
}

/// One request and the reply to it.
pub trait Operation {
    /// What a successful reply says.
    type Reply;
    /// The operation's number.
    const OPCODE: Opcode;
    /// The cap of the reply in bytes.
    const MAX_REPLY: usize = MAX_REPLY;

    /// Appends the arguments; the opcode is already there.
    fn encode(&self, session: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation>;
    /// The reply's layout.
    fn reply_schema(&self, session: &Session) -> Schema;
    /// Decodes a reply of that layout.
    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Self::Reply, DecodeError>;
}

/// Refuses an operation that came with a later version.
fn require(since: Version, opcode: Opcode, session: &Session) -> Result<(), UnsupportedOperation> {
    if session.version < since { Err(UnsupportedOperation { opcode, version: session.version }) } else { Ok(()) }
}

fn put_path(out: &mut BytesMut, session: &Session, path: &StorePath) {
    put_bytes(out, session.store.full_path(path).as_bytes());
}
