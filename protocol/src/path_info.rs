//! What the daemon knows of a valid path.
//!
//! Owns the wire layout (`UnkeyedValidPathInfo`, the same bytes from Nix 2.3 to 2.36), and the fingerprint that
//! signatures are made over. A signature of the daemon that is malformed is dropped here, as is a content address of
//! an unknown form: neither may reach a narinfo. (Nix `src/libstore/path-info.cc`, `worker-protocol.cc`.)

use bytes::BytesMut;

use crate::content_address::ContentAddress;
use crate::hash::NarHash;
use crate::signature::Signature;
use crate::signature_set::KnownKeys;
use crate::store_path::{StoreDir, StorePath};
use crate::wire::{
    DecodeError, DecodeErrorKind, Reader, STRING, STRINGS, Schema, Shape, field, put_bool, put_bytes, put_strings,
    put_u64,
};

/// The fields after the path itself.
pub(crate) const UNKEYED: Schema = &[
    field("deriver", STRING),
    field("nar hash", STRING),
    field("references", STRINGS),
    field("registration time", Shape::U64),
    field("nar size", Shape::U64),
    field("ultimate", Shape::U64),
    field("signatures", STRINGS),
    field("content address", STRING),
];

/// What the daemon knows of a valid path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The derivation that built it, if known.
    pub deriver: Option<StorePath>,
    /// The hash of its NAR.
    pub nar_hash: NarHash,
    /// The paths that it refers to, perhaps itself; in ascending order, each once.
    pub references: Vec<StorePath>,
    /// When it became valid, in seconds since 1970.
    pub registration_time: u64,
    /// The length of its NAR in bytes; 0 if the daemon does not know, as in ancient stores.
    pub nar_size: u64,
    /// Whether it was built here rather than substituted.
    pub ultimate: bool,
    /// The well-formed signatures that the daemon holds, bounded in number by [`crate::signature_set`].
    pub signatures: Vec<Signature>,
    /// The content address, if it has one of a known form.
    pub content_address: Option<ContentAddress>,
}

impl PathInfo {
    /// What is signed: `1;<path>;sha256:<nix32>;<nar size>;<references, comma-separated>`, full paths throughout.
    #[must_use]
    pub fn fingerprint(&self, path: &StorePath, store: &StoreDir) -> String {
        let mut text = format!("1;{};{};{};", store.full_path(path), self.nar_hash, self.nar_size);
        for (index, reference) in self.references.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(store.as_str());
            text.push('/');
            text.push_str(reference.base_name());
        }
        text
    }

    pub(crate) fn decode(
        reader: &mut Reader<'_>,
        store: &StoreDir,
        known_keys: &KnownKeys,
    ) -> Result<Self, DecodeError> {
        let deriver = reader.optional_store_path(store, "deriver")?;
        let nar_hash = NarHash::parse(reader.str("nar hash")?)
            .map_err(|error| DecodeErrorKind::Hash(error).in_field("nar hash"))?;
        let mut references = reader.store_paths(store, "references")?;
        references.sort_unstable();
        references.dedup();
        let registration_time = reader.u64("registration time")?;
        let nar_size = reader.u64("nar size")?;
        let ultimate = reader.bool("ultimate")?;
        let signatures = reader.repeat("signatures", |reader| reader.bytes("signature"))?;
        let signatures = known_keys.select(signatures);
        let content_address =
            std::str::from_utf8(reader.bytes("content address")?).ok().and_then(ContentAddress::parse);
        Ok(Self { deriver, nar_hash, references, registration_time, nar_size, ultimate, signatures, content_address })
    }

    pub(crate) fn encode(&self, store: &StoreDir, out: &mut BytesMut) {
        put_bytes(out, self.deriver.as_ref().map(|path| store.full_path(path)).unwrap_or_default().as_bytes());
        put_bytes(out, self.nar_hash.to_hex().as_bytes());
        put_strings(out, self.references.iter().map(|path| store.full_path(path)));
        put_u64(out, self.registration_time);
        put_u64(out, self.nar_size);
        put_bool(out, self.ultimate);
        put_strings(out, self.signatures.iter().map(ToString::to_string));
        put_bytes(out, self.content_address.as_ref().map(ToString::to_string).unwrap_or_default().as_bytes());
    }
}
