//! The query of what is missing: builds and downloads that making paths valid takes.

use bytes::BytesMut;

use super::codec::Operation;
use super::opcode::{Opcode, UnsupportedOperation};
use crate::derivation_output::OutputName;
use crate::session::Session;
use crate::store_path::StorePath;
use crate::version::Version;
use crate::wire::{DecodeError, Reader, STRINGS, Schema, Shape, field, put_strings};

/// Selection of the outputs of a derivation (`OutputsSpec` in Nix).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputsSpec {
    /// All outputs.
    All,
    /// The outputs of these names.
    Named(Vec<OutputName>),
}

/// Something that can be made valid: a path, or outputs of a derivation (`DerivedPath` in Nix).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivedPath {
    /// A store path.
    Opaque(StorePath),
    /// Outputs of the derivation at a store path.
    Built(StorePath, OutputsSpec),
}

impl DerivedPath {
    /// Returns the text for this session. Before protocol 1.30 a bare derivation stands for all of its outputs, and
    /// there is no `!*`.
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

/// Work that making paths valid takes: the reply to [`QueryMissing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Derivations that would be built.
    pub will_build: Vec<StorePath>,
    /// Paths that would be substituted.
    pub will_substitute: Vec<StorePath>,
    /// Paths that can neither be built nor substituted.
    pub unknown: Vec<StorePath>,
    /// Bytes that substitution would download.
    pub download_size: u64,
    /// Bytes of NARs that substitution would unpack.
    pub nar_size: u64,
}

/// Asks what work making the given paths valid takes.
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
            will_build: reader.store_paths(&session.store, "will build")?,
            will_substitute: reader.store_paths(&session.store, "will substitute")?,
            unknown: reader.store_paths(&session.store, "unknown")?,
            download_size: reader.u64("download size")?,
            nar_size: reader.u64("nar size")?,
        })
    }
}
