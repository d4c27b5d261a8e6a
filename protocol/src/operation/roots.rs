//! Keeping paths alive, and making them valid.

use bytes::BytesMut;

use super::{Opcode, Operation, UnsupportedOperation, put_path};
use crate::handshake::Session;
use crate::path_info::path;
use crate::store_path::StorePath;
use crate::wire::{DecodeError, MAX_ENTRIES, Reader, STRING, Schema, Shape, TEXT, field};

single_path_operation! {
    /// Keeps a path, valid or not, from the garbage collector until the *connection* ends.
    AddTempRoot -> (), field("done", Shape::U64), |_, reader| reader.u64("done").map(drop)
}

single_path_operation! {
    /// Makes a path valid by substitution if it is not; may take as long as a download.
    EnsurePath -> (), field("done", Shape::U64), |_, reader| reader.u64("done").map(drop)
}

/// A root of the garbage collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The link's path, or the daemon's word for one that it hides or that is no file. Any bytes, made text.
    pub link: String,
    /// What it keeps alive.
    pub target: StorePath,
}

/// The roots of the garbage collector, censored for clients that are not trusted.
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
            Ok(Root { link, target: path(reader, &session.store, "root target")? })
        })
    }
}
