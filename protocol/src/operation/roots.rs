//! Indirect roots of the garbage collector, and the query of all roots.

use bytes::BytesMut;

use super::codec::Operation;
use super::opcode::{Opcode, UnsupportedOperation};
use crate::session::Session;
use crate::store_path::StorePath;
use crate::wire::{DecodeError, MAX_ENTRIES, Reader, STRING, Schema, Shape, TEXT, field, put_bytes};

/// A root of the garbage collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Path of the symlink, or nix-daemon's text for a root that it hides (`{censored}`) or that is not a file. Bytes
    /// that are not UTF-8 are replaced.
    pub link: String,
    /// Store path that the root protects.
    pub target: StorePath,
}

/// Asks for the roots of the garbage collector. nix-daemon hides details from clients that it does not trust.
#[derive(Debug)]
pub struct FindRoots;

impl Operation for FindRoots {
    type Reply = Vec<Root>;
    const OPCODE: Opcode = Opcode::FindRoots;

    fn encode(&self, _: &Session, _: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        Ok(())
    }

    fn reply_schema(&self, _: &Session) -> Schema {
        const ROOT: Schema = &[field("root link", TEXT), field("root target", STRING)];
        const { &[field("roots", Shape::Repeat { max: MAX_ENTRIES, item: ROOT })] }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Vec<Root>, DecodeError> {
        reader.repeat("roots", |reader| {
            let link = String::from_utf8_lossy(reader.bytes("root link")?).into_owned();
            Ok(Root { link, target: reader.store_path(&session.store, "root target")? })
        })
    }
}

/// Adds an indirect GC root: nix-daemon remembers the path of a symlink, and the garbage collector keeps what the symlink
/// points to for as long as it exists. Any client may do so.
///
/// The path has to be absolute and visible to nix-daemon, and outside of the store.
#[derive(Debug)]
pub struct AddIndirectRoot<'a>(pub &'a [u8]);

impl Operation for AddIndirectRoot<'_> {
    type Reply = ();
    const OPCODE: Opcode = Opcode::AddIndirectRoot;

    fn encode(&self, _: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        put_bytes(out, self.0);
        Ok(())
    }

    fn reply_schema(&self, _: &Session) -> Schema {
        const { &[field("done", Shape::U64)] }
    }

    fn decode(&self, _: &Session, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        reader.u64("done").map(drop)
    }
}
