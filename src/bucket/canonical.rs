//! Objects as harmonia writes them, from bytes that somebody else has written: the interface of the fuzz targets.
//!
//! Each function returns `None` for what is refused. Otherwise it renders what was read, so that a target sees what was
//! understood without knowing the types.

use harmonia_protocol::signature::PublicKey;
use harmonia_protocol::{HashPart, StoreDir};

use super::gc::{PinFile, StoredPlan, hash_list, holder};
use super::host_file::HostFile;
use super::index::Latest;
use super::narinfo::BucketNarInfo;
use super::object_name::ObjectName;
use super::segment::Segment;

/// Narinfo that was read.
#[derive(Debug)]
pub struct NarInfo {
    /// The object.
    pub text: String,
    /// A key that is trusted has signed it.
    pub is_signed: bool,
}

/// Reads the name of an object, below the prefix.
#[must_use]
pub fn name(text: &str) -> Option<String> {
    ObjectName::parse(text).map(|name| name.to_string())
}

/// Reads the narinfo of a hash part.
#[must_use]
pub fn narinfo(bytes: &[u8], hash: HashPart, keys: &[PublicKey], store: &StoreDir) -> Option<NarInfo> {
    let narinfo = BucketNarInfo::parse(bytes, hash, store).ok()?;
    Some(NarInfo { text: narinfo.render(store), is_signed: narinfo.check_signed(keys, store).is_ok() })
}

/// Reads a segment of the index.
#[must_use]
pub fn segment(bytes: &[u8]) -> Option<Vec<u8>> {
    Segment::decode(bytes).ok()?.encode().ok()
}

/// Reads the file of the host of this name.
#[must_use]
pub fn host_file(bytes: &[u8], host: &str) -> Option<Vec<u8>> {
    HostFile::parse(bytes, &host.parse().ok()?).ok()?.render().ok()
}

/// Reads the last segments of hosts. Nothing is refused.
#[must_use]
pub fn latest(bytes: &[u8]) -> String {
    Latest::parse(bytes).render()
}

/// Reads a list of hash parts: what a host's garbage collector keeps, or what it has served on a day.
#[must_use]
pub fn hash_list(bytes: &[u8]) -> Option<Vec<u8>> {
    hash_list::encode(&hash_list::decode(bytes)?).ok()
}

/// Reads the plan of a garbage collection.
#[must_use]
pub fn gc_plan(bytes: &[u8]) -> Option<Vec<u8>> {
    StoredPlan::decode(bytes).ok()?.encode().ok()
}

/// Reads who holds the lease of a garbage collection.
#[must_use]
pub fn gc_lease(bytes: &[u8]) -> String {
    holder(bytes)
}

/// Reads a pin.
#[must_use]
pub fn pin(bytes: &[u8]) -> Option<Vec<u8>> {
    PinFile::parse(bytes).ok()?.render().ok()
}
