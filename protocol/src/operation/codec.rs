//! The trait that each operation implements.

use bytes::BytesMut;

use super::opcode::{Opcode, UnsupportedOperation};
use crate::session::Session;
use crate::store_path::StorePath;
use crate::version::Version;
use crate::wire::{DecodeError, Reader, Schema, put_bytes};

/// Default upper bound of a reply, in bytes: a path info with half a million references, more than any store path has.
const MAX_REPLY: usize = 64 * 1024 * 1024;

/// A request to nix-daemon and the decoding of its reply, for [`Client::call`] and [`Client::pipeline`].
///
/// Implement it for operations that this crate lacks and whose [`Opcode`] it lists.
///
/// [`Client::call`]: crate::client::Client::call
/// [`Client::pipeline`]: crate::client::Client::pipeline
pub trait Operation {
    /// Decoded reply.
    type Reply;
    /// Number of the operation.
    const OPCODE: Opcode;
    /// Upper bound of the reply, in bytes.
    const MAX_REPLY: usize = MAX_REPLY;

    /// Appends the arguments to `out`, which already ends in the opcode.
    ///
    /// Fails if nix-daemon of this session does not implement the operation; what was appended is discarded then.
    fn encode(&self, session: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation>;

    /// Returns the schema of the reply in this session, by which its end is found.
    fn reply_schema(&self, session: &Session) -> Schema;

    /// Decodes a complete reply of that schema. Bytes left in `reader` make the reply malformed.
    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Self::Reply, DecodeError>;
}

/// Fails if the protocol of the session is older than `since`.
pub(super) fn require(since: Version, opcode: Opcode, session: &Session) -> Result<(), UnsupportedOperation> {
    if session.version < since { Err(UnsupportedOperation { opcode, version: session.version }) } else { Ok(()) }
}

/// Appends the full path of a store path.
pub(super) fn put_path(out: &mut BytesMut, session: &Session, path: &StorePath) {
    put_bytes(out, session.store.full_path(path).as_bytes());
}
