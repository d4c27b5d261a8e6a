//! Asking for a realisation, by the form that the daemon answers.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{Opcode, Operation, UnsupportedOperation, put_path, require};
use crate::handshake::Session;
use crate::path_info::{path, paths};
use crate::realisation::{DerivationOutput, Realisation};
use crate::version::{Feature, Version};
use crate::wire::{DecodeError, Reader, STRING, STRINGS, Schema, Shape, TEXT, field, put_bytes};

/// At most one realisation is ever answered; old daemons wrap it in a list.
const MAX_REALISATIONS: usize = 64;

/// The path that an output of a content-addressed derivation is; `None` if it is not known.
///
/// An output whose form the daemon does not answer is [`UnsupportedOperation`] without a byte sent: some daemons lose their
/// step over it.
#[derive(Debug)]
pub struct QueryRealisation<'a>(pub &'a DerivationOutput);

/// How replies look.
enum Form {
    /// 1.27 to 1.30: a set of output paths.
    Paths,
    /// 1.31 up to Nix 2.34: a list of JSON documents.
    Json,
    /// Nix 2.35 and later, and Determinate Nix: tag, path, signatures.
    Keyed,
}

impl Form {
    /// A daemon of 1.38 that lacks the feature is Nix 2.34 or older, as the feature is always offered.
    fn of(session: &Session) -> Self {
        if session.has_feature(Feature::RealisationWithPathNotHash) {
            Self::Keyed
        } else if session.version >= Version::JSON_REALISATIONS {
            Self::Json
        } else {
            Self::Paths
        }
    }
}

impl Operation for QueryRealisation<'_> {
    type Reply = Option<Realisation>;
    const OPCODE: Opcode = Opcode::QueryRealisation;

    fn encode(&self, session: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation> {
        /// Lix dropped realisations in 2.94.
        const LIX_WITHOUT: u32 = 94;
        require(Version::REALISATIONS, Self::OPCODE, session)?;
        match (self.0, Form::of(session)) {
            _ if session.is_lix(LIX_WITHOUT) => {}
            (DerivationOutput::Path(derivation, output), Form::Keyed) => {
                put_path(out, session, derivation);
                put_bytes(out, output.as_str().as_bytes());
                return Ok(());
            }
            (DerivationOutput::Hashed(id), Form::Json | Form::Paths) => {
                put_bytes(out, id.to_string().as_bytes());
                return Ok(());
            }
            _ => {}
        }
        Err(UnsupportedOperation { opcode: Self::OPCODE, version: session.version })
    }

    fn reply_schema(&self, session: &Session) -> Schema {
        const KEYED: Schema = &[field("realisation path", STRING), field("realisation signatures", STRINGS)];
        const JSON: Shape = Shape::Repeat { max: MAX_REALISATIONS, item: &[field("realisation", TEXT)] };
        match Form::of(session) {
            Form::Paths => const { &[field("realisation paths", STRINGS)] },
            Form::Json => const { &[field("realisations", JSON)] },
            Form::Keyed => const { &[field("realisation tag", Shape::Choice(&[(0, &[]), (1, KEYED)]))] },
        }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Option<Realisation>, DecodeError> {
        match Form::of(session) {
            Form::Paths => {
                let path = paths(reader, &session.store, "realisation paths")?.pop();
                Ok(path.map(|path| Realisation { path, dependencies: BTreeMap::new(), signatures: Vec::new() }))
            }
            Form::Json => reader
                .repeat("realisations", |reader| reader.bytes("realisation"))?
                .first()
                .map(|json| Realisation::from_json(json, self.0, session.known_keys()))
                .transpose(),
            Form::Keyed if reader.u64("realisation tag")? == 0 => Ok(None),
            Form::Keyed => {
                let path = path(reader, &session.store, "realisation path")?;
                let signatures = reader.repeat("realisation signatures", |reader| reader.bytes("signature"))?;
                let signatures = session.known_keys().select(signatures);
                Ok(Some(Realisation { path, dependencies: BTreeMap::new(), signatures }))
            }
        }
    }
}
