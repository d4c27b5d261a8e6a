//! Questions about paths.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{Opcode, Operation, UnsupportedOperation, put_path, require};
use crate::handshake::Session;
use crate::path_info::{PathInfo, UNKEYED, optional_path, paths};
use crate::realisation::OutputName;
use crate::store_path::{HashPart, StorePath};
use crate::version::Version;
use crate::wire::{
    DecodeError, DecodeErrorKind, MAX_ENTRIES, Reader, STRING, STRINGS, Schema, Shape, field, put_bool, put_bytes,
    put_strings,
};

single_path_operation! {
    /// Whether a path is valid.
    IsValidPath -> bool, field("valid", Shape::U64), |_, reader| reader.bool("valid")
}

single_path_operation! {
    /// What the daemon knows of a path; `None` if it is not valid.
    QueryPathInfo -> Option<PathInfo>, field("valid", Shape::Flag(UNKEYED)), |session, reader| {
        if reader.bool("valid")? { PathInfo::decode(reader, &session.store, session.known_keys()).map(Some) } else { Ok(None) }
    }
}

single_path_operation! {
    /// The valid paths that refer to a path; none if it is unknown.
    QueryReferrers -> Vec<StorePath>, field("referrers", STRINGS), |session, reader| {
        paths(reader, &session.store, "referrers")
    }
}

single_path_operation! {
    /// The valid derivations that have a path as an output; none if it is unknown.
    QueryValidDerivers -> Vec<StorePath>, field("derivers", STRINGS), |session, reader| {
        paths(reader, &session.store, "derivers")
    }
}

/// The valid path that has a hash part; `None` if there is none.
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
        optional_path(reader, &session.store, "path")
    }
}

/// Which of the paths are valid, without asking substituters.
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
        paths(reader, &session.store, "valid paths")
    }
}

/// Every valid path of the store.
#[derive(Debug)]
pub struct QueryAllValidPaths;

impl Operation for QueryAllValidPaths {
    type Reply = Vec<StorePath>;
    const OPCODE: Opcode = Opcode::QueryAllValidPaths;
    /// The cap on entries times a long path's bytes.
    const MAX_REPLY: usize = MAX_ENTRIES * 128;

    fn encode(&self, _: &Session, _: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        Ok(())
    }

    fn reply_schema(&self, _: &Session) -> Schema {
        const { &[field("all paths", STRINGS)] }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Vec<StorePath>, DecodeError> {
        paths(reader, &session.store, "all paths")
    }
}

/// The outputs of a valid derivation, with their paths where they are known.
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
            Ok((name, optional_path(reader, &session.store, "output path")?))
        })?;
        Ok(outputs.into_iter().collect())
    }
}

/// What is wanted of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputsSpec {
    /// All of its outputs.
    All,
    /// These.
    Named(Vec<OutputName>),
}

/// Something that can be made valid: a path, or outputs of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivedPath {
    /// The path itself.
    Opaque(StorePath),
    /// What building the derivation gives.
    Built(StorePath, OutputsSpec),
}

impl DerivedPath {
    /// The textual form. Below protocol 1.30 a bare derivation means all of its outputs, and there is no `!*`.
    fn to_wire(&self, session: &Session) -> String {
        const EXPLICIT_OUTPUTS: Version = Version::from_minor(30);
        match self {
            Self::Opaque(path) => session.store.full_path(path),
            Self::Built(path, OutputsSpec::All) if session.version < EXPLICIT_OUTPUTS => session.store.full_path(path),
            Self::Built(path, OutputsSpec::All) => session.store.full_path(path) + "!*",
            Self::Built(path, OutputsSpec::Named(names)) => {
                let names: Vec<&str> = names.iter().map(OutputName::as_str).collect();
                format!("{}!{}", session.store.full_path(path), names.join(","))
            }
        }
    }
}

/// What would have to be done to make paths valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Derivations that would be built.
    pub will_build: Vec<StorePath>,
    /// Paths that would be substituted.
    pub will_substitute: Vec<StorePath>,
    /// Paths that cannot be had.
    pub unknown: Vec<StorePath>,
    /// What substitution would download, in bytes.
    pub download_size: u64,
    /// What substitution would unpack to, in bytes of NAR.
    pub nar_size: u64,
}

/// What would have to be done to make these valid.
#[derive(Debug)]
pub struct QueryMissing<'a>(pub &'a [DerivedPath]);

impl Operation for QueryMissing<'_> {
    type Reply = Missing;
    const OPCODE: Opcode = Opcode::QueryMissing;

    fn encode(&self, session: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        put_strings(out, self.0.iter().map(|path| path.to_wire(session)));
        Ok(())
    }

    fn reply_schema(&self, _: &Session) -> Schema {
        const {
            &[
                field("will build", STRINGS),
                field("will substitute", STRINGS),
                field("unknown", STRINGS),
                field("download size", Shape::U64),
                field("nar size", Shape::U64),
            ]
        }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Missing, DecodeError> {
        Ok(Missing {
            will_build: paths(reader, &session.store, "will build")?,
            will_substitute: paths(reader, &session.store, "will substitute")?,
            unknown: paths(reader, &session.store, "unknown")?,
            download_size: reader.u64("download size")?,
            nar_size: reader.u64("nar size")?,
        })
    }
}
