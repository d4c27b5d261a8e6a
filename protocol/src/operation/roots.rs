//! The query of the garbage collector's roots.

use bytes::BytesMut;

use super::codec::Operation;
use super::opcode::{Opcode, UnsupportedOperation};
use crate::session::Session;
use crate::store_path::StorePath;
use crate::wire::{DecodeError, MAX_ENTRIES, Reader, STRING, Schema, Shape, TEXT, field};

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
