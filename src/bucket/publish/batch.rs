//! Paths that are published together.

use bytes::Bytes;
use harmonia_protocol::{HashPart, StorePath};

use super::plan::{Item, Withheld};
use crate::bucket::engine::BucketError;
use crate::bucket::narinfo::BucketNarInfo;
use crate::bucket::object_name::ObjectName;

/// A path to publish, with what belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    /// Narinfo, signed.
    pub(crate) narinfo: BucketNarInfo,
    /// Listing of its files, as JSON.
    pub(crate) listing: Option<Bytes>,
    /// Build log of its derivation.
    pub(crate) log: Option<(StorePath, Bytes)>,
}

impl Publication {
    /// Returns the hash part of the path.
    pub(crate) fn path(&self) -> HashPart {
        self.narinfo.path().hash_part()
    }

    /// Returns what the plan has to know.
    pub(super) fn item(&self) -> Item {
        Item {
            path: self.path(),
            file: self.narinfo.file(),
            file_size: self.narinfo.file_size(),
            references: self.narinfo.references().collect(),
        }
    }
}

/// Result of publishing a batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    /// Paths whose narinfo this host has put.
    pub(crate) narinfos: usize,
    /// Files of NARs that this host has put, and their size in bytes.
    pub(crate) nars: usize,
    pub(crate) nar_bytes: u64,
    /// Paths that are in the bucket with another NAR, which another host has built. Theirs counts.
    pub(crate) irreproducible: Vec<HashPart>,
    /// Segments of the index that this host has put, with the paths in them.
    pub(crate) segments: Vec<(ObjectName, Vec<HashPart>)>,
    /// Paths whose narinfo could not be put, with the errors, which do not pass by waiting.
    pub(crate) failed: Vec<(HashPart, BucketError)>,
    /// Paths that are not in the bucket now: a reference of theirs is missing, or their file is.
    pub(crate) withheld: Vec<Withheld>,
}
