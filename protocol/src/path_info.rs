//! Path info: the metadata that nix-daemon has of a valid path.
//!
//! Encodes and decodes it (`UnkeyedValidPathInfo`, which Nix 2.3 to 2.36 encode alike), and renders the fingerprint that is
//! signed. Decoding drops malformed signatures and content addresses of an unknown form, so that they do not reach a
//! narinfo.
//!
//! Source: Nix `src/libstore/path-info.cc` and `worker-protocol.cc`.

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

/// Schema of a path info without the path.
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

/// Metadata of a valid path (`ValidPathInfo` in Nix).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Derivation that built the path, if known.
    pub deriver: Option<StorePath>,
    /// Hash of the NAR.
    pub nar_hash: NarHash,
    /// Paths that it refers to, perhaps itself; in ascending order, without duplicates.
    pub references: Vec<StorePath>,
    /// Time at which the path became valid, in seconds since 1970.
    pub registration_time: u64,
    /// Size of the NAR in bytes; 0 if it is not known, as in very old stores.
    pub nar_size: u64,
    /// Whether the path was built on this machine rather than substituted.
    pub ultimate: bool,
    /// Well-formed signatures, whose number [`signature_set`](crate::signature_set) limits.
    pub signatures: Vec<Signature>,
    /// Content address, if there is one of a known form.
    pub content_address: Option<ContentAddress>,
}

impl PathInfo {
    /// Returns the text that is signed: `1;<path>;sha256:<nix32>;<nar size>;<references, comma-separated>`, all paths in full.
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
