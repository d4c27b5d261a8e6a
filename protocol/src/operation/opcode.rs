//! Numbers of the operations, and which of them leave the connection usable after an error.

use crate::version::Version;

/// Number of an operation in the protocol (Nix `src/libstore/worker-protocol.hh`, `WorkerProto::Op`).
///
/// Lists the operations of this crate, not all of Nix's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u64)]
#[non_exhaustive]
#[allow(missing_docs)] // the names are the protocol's own
pub enum Opcode {
    IsValidPath = 1,
    QueryReferrers = 6,
    EnsurePath = 10,
    AddTempRoot = 11,
    AddIndirectRoot = 12,
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
    /// Returns the number as it is sent.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        self as u64
    }

    /// Returns whether the connection stays usable after nix-daemon reported an error, if every path that was sent was
    /// well-formed.
    ///
    /// [`Client`] closes the connection if this is `false`: some release then leaves unread arguments or a partial reply
    /// behind.
    ///
    /// [`Client`]: crate::client::Client
    #[must_use]
    pub const fn survives_error(self) -> bool {
        match self {
            Self::IsValidPath
            | Self::QueryReferrers
            | Self::EnsurePath
            | Self::AddTempRoot
            | Self::AddIndirectRoot
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

/// An operation, or a form of it, that nix-daemon at the other end does not implement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nix-daemon (protocol {version}) does not implement {opcode:?}")]
pub struct UnsupportedOperation {
    /// The operation.
    pub opcode: Opcode,
    /// Protocol version of the session.
    pub version: Version,
}
