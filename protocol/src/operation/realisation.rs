//! The query of a realisation, in the form that nix-daemon of the session understands.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::codec::{Operation, put_path, require};
use super::opcode::{Opcode, UnsupportedOperation};
use crate::derivation_output::DerivationOutput;
use crate::realisation::Realisation;
use crate::session::Session;
use crate::version::{Feature, Version};
use crate::wire::{DecodeError, Reader, STRING, STRINGS, Schema, Shape, TEXT, field, put_bytes};

/// Largest list of realisations. nix-daemon sends at most one; old releases wrap it in a list.
const MAX_REALISATIONS: usize = 64;

/// Asks for the path that an output of a content-addressed derivation was built as. The reply is `None` if nix-daemon
/// has no such realisation.
///
/// An output in a form that nix-daemon does not understand is an [`UnsupportedOperation`], and nothing is sent: some
/// releases read such a request wrongly and the connection cannot be used afterwards.
#[derive(Debug)]
pub struct QueryRealisation<'a>(pub &'a DerivationOutput);

/// Form of requests and replies.
enum Form {
    /// 1.27 to 1.30: a set of output paths.
    Paths,
    /// 1.31 up to Nix 2.34: a list of JSON documents.
    Json,
    /// Nix 2.35 and later, and Determinate Nix: tag, path, signatures.
    Keyed,
}

impl Form {
    /// Selects the form by version and feature. nix-daemon of protocol 1.38 without the feature is Nix 2.34 or older,
    /// since the feature is always offered.
    fn in_session(session: &Session) -> Self {
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
        match (self.0, Form::in_session(session)) {
            _ if session.is_lix_since(LIX_WITHOUT) => {}
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
        match Form::in_session(session) {
            Form::Paths => const { &[field("realisation paths", STRINGS)] },
            Form::Json => const { &[field("realisations", JSON)] },
            Form::Keyed => const { &[field("realisation tag", Shape::Choice(&[(0, &[]), (1, KEYED)]))] },
        }
    }

    fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<Option<Realisation>, DecodeError> {
        match Form::in_session(session) {
            Form::Paths => {
                let path = reader.store_paths(&session.store, "realisation paths")?.pop();
                Ok(path.map(|path| Realisation { path, dependencies: BTreeMap::new(), signatures: Vec::new() }))
            }
            Form::Json => reader
                .repeat("realisations", |reader| reader.bytes("realisation"))?
                .first()
                .map(|json| Realisation::from_json(json, self.0, session.known_keys()))
                .transpose(),
            Form::Keyed if reader.u64("realisation tag")? == 0 => Ok(None),
            Form::Keyed => {
                let path = reader.store_path(&session.store, "realisation path")?;
                let signatures = reader.repeat("realisation signatures", |reader| reader.bytes("signature"))?;
                let signatures = session.known_keys().select(signatures);
                Ok(Some(Realisation { path, dependencies: BTreeMap::new(), signatures }))
            }
        }
    }
}
