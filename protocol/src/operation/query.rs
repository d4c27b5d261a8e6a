//! Queries about paths whose argument is something else than one path.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::codec::{Operation, put_path, require};
use super::opcode::{Opcode, UnsupportedOperation};
use crate::derivation_output::OutputName;
use crate::session::Session;
use crate::store_path::{HashPart, StorePath};
use crate::version::Version;
use crate::wire::{
    DecodeError, DecodeErrorKind, MAX_ENTRIES, Reader, STRING, STRINGS, Schema, Shape, field, put_bool, put_bytes,
    put_strings,
};

/// Asks for the valid path that has a hash part. The reply is `None` if there is none.
#[derive(Debug)]
pub struct QueryPathFromHashPart(pub HashPart);

impl Operation for QueryPathFromHashPart {
    type Reply = Option<StorePath>;
    const OPCODE: Opcode = Opcode::QueryPathFromHashPart;

    fn encode(&self, _: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        put_bytes(out, self.0.as_str().as_bytes());
        Ok(())
    }

    fn reply_schema(&self, _: &Session) -> Schema {
        const { &[field("path", STRING)] }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Option<StorePath>, DecodeError> {
        reader.optional_store_path(&session.store, "path")
    }
}

/// Asks which of the given paths are valid, in one operation and without substitution.
#[derive(Debug)]
pub struct QueryValidPaths<'a>(pub &'a [StorePath]);

impl Operation for QueryValidPaths<'_> {
    type Reply = Vec<StorePath>;
    const OPCODE: Opcode = Opcode::QueryValidPaths;

    fn encode(&self, session: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        put_strings(out, self.0.iter().map(|path| session.store.full_path(path)));
        if session.version >= Version::REALISATIONS {
            let substitute = false;
            put_bool(out, substitute);
        }
        Ok(())
    }

    fn reply_schema(&self, _: &Session) -> Schema {
        const { &[field("valid paths", STRINGS)] }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Vec<StorePath>, DecodeError> {
        reader.store_paths(&session.store, "valid paths")
    }
}

/// Asks for every valid path of the store: tens of megabytes on a large one.
#[derive(Debug)]
pub struct QueryAllValidPaths;

impl Operation for QueryAllValidPaths {
    type Reply = Vec<StorePath>;
    const OPCODE: Opcode = Opcode::QueryAllValidPaths;
    /// The largest count of paths times the length of a long one.
    const MAX_REPLY: usize = MAX_ENTRIES * 128;

    fn encode(&self, _: &Session, _: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        Ok(())
    }

    fn reply_schema(&self, _: &Session) -> Schema {
        const { &[field("all paths", STRINGS)] }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Vec<StorePath>, DecodeError> {
        reader.store_paths(&session.store, "all paths")
    }
}

/// Asks for the outputs of a valid derivation, with their paths where they are known. Protocol 1.22 (Nix 2.4) and later.
#[derive(Debug)]
pub struct QueryDerivationOutputMap<'a>(pub &'a StorePath);

impl Operation for QueryDerivationOutputMap<'_> {
    type Reply = BTreeMap<OutputName, Option<StorePath>>;
    const OPCODE: Opcode = Opcode::QueryDerivationOutputMap;

    fn encode(&self, session: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        require(Version::DERIVATION_OUTPUT_MAP, Self::OPCODE, session)?;
        put_path(out, session, self.0);
        Ok(())
    }

    fn reply_schema(&self, _: &Session) -> Schema {
        const OUTPUT: Schema = &[field("output name", STRING), field("output path", STRING)];
        const { &[field("outputs", Shape::Repeat { max: MAX_ENTRIES, item: OUTPUT })] }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Self::Reply, DecodeError> {
        let outputs = reader.repeat("outputs", |reader| {
            let name = OutputName::new(reader.str("output name")?)
                .map_err(|_| DecodeErrorKind::OutputName.in_field("output name"))?;
            Ok((name, reader.optional_store_path(&session.store, "output path")?))
        })?;
        Ok(outputs.into_iter().collect())
    }
}
