//! Puts one narinfo, unless the bucket has one that counts.

use std::collections::HashSet;

use bytes::Bytes;
use harmonia_protocol::HashPart;

use super::batch::Publication;
use super::presence::{Found, Presence};
use crate::bucket::engine::{BucketError, Put, Replace};
use crate::bucket::object_name::ObjectName;

/// The build of a path that the bucket has.
pub(super) enum Build {
    /// That of this host, which has put it.
    Put,
    /// One with the same NAR.
    Same,
    /// Another one.
    Other,
}

/// A narinfo to put.
pub(super) enum NarInfoPut<'a> {
    /// One of this host.
    New(&'a Publication),
    /// An old one, as it was.
    Again((HashPart, Bytes)),
}

impl NarInfoPut<'_> {
    /// Returns the hash part of the path.
    pub(super) fn path(&self) -> HashPart {
        match self {
            Self::New(publication) => publication.path(),
            Self::Again((path, _)) => *path,
        }
    }

    /// Returns whether it is of a path that refers to any of these, and is not in the bucket yet.
    pub(super) fn refers_to(&self, paths: &HashSet<HashPart>) -> bool {
        match self {
            Self::New(publication) => publication.narinfo.references().any(|reference| paths.contains(&reference)),
            Self::Again(_) => false,
        }
    }
}

/// Puts a narinfo, unless another host was faster, and returns whose build the bucket has.
pub(super) async fn put_narinfo(presence: &Presence<'_>, put: &NarInfoPut<'_>) -> Result<Build, BucketError> {
    let Presence { store, directory, .. } = presence;
    let publication = match put {
        NarInfoPut::New(publication) => publication,
        NarInfoPut::Again((path, bytes)) => {
            store.put(&ObjectName::NarInfo(*path), bytes.clone(), Replace::Always).await?;
            return Ok(Build::Same);
        }
    };
    let path = publication.path();
    let name = ObjectName::NarInfo(path);
    let text = Bytes::from(publication.narinfo.render(directory));
    if store.put(&name, text.clone(), Replace::IfAbsent).await? == Put::Written {
        return Ok(Build::Put);
    }
    let ours = &publication.narinfo;
    let (build, stored) = match presence.find(path, ours.nar_hash(), || presence.trusts(ours)).await? {
        // It is there, but of no use: it was cut short, or is of something else.
        Found::Absent => {
            store.put(&name, text, Replace::Always).await?;
            return Ok(Build::Put);
        }
        Found::Untrusted(stored) => {
            let mut both = ours.clone();
            both.add_signatures(&stored.narinfo, directory);
            store.put(&name, both.render(directory).into(), Replace::Always).await?;
            return Ok(Build::Put);
        }
        Found::Same(stored) => (Build::Same, stored),
        Found::Other(stored) => (Build::Other, stored),
    };
    if stored.is_old {
        store.put(&name, stored.bytes, Replace::Always).await?;
    }
    Ok(build)
}
