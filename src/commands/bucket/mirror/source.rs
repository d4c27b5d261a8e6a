//! The binary cache that is mirrored: by HTTP, or a bucket or directory.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use harmonia_protocol::{HashPart, StoreDir};

use crate::bucket::{
    BucketError, BucketStore, NarFile, ObjectBody, ObjectName, Patience, WebBody, WebCache, check_cache_info,
};
use crate::cli::MirrorSource;
use crate::commands::bucket::failure::BucketFailure;
use crate::config::{BucketConfig, BucketLocation, HostName};

/// Upper bound of a narinfo and of `nix-cache-info`, in bytes.
const MAX_INFO: usize = 1 << 20;

/// A binary cache.
#[derive(Debug)]
pub(super) enum Source {
    Web(WebCache),
    Objects(BucketStore),
}

/// File of a NAR that is read in pieces.
pub(super) enum SourceBody {
    Web(WebBody),
    Object(ObjectBody),
}

impl Source {
    /// Opens a cache, without a request. Server and access key of a bucket are those of the configuration.
    pub(super) async fn open(from: &MirrorSource, bucket: Option<&BucketConfig>) -> Result<Self, BucketFailure> {
        let location = match from {
            MirrorSource::Web(url) => return Ok(Self::Web(WebCache::new(url.clone())?)),
            MirrorSource::Bucket(location) => location,
        };
        let config = match (location, bucket) {
            (BucketLocation::Directory(path), _) => BucketConfig::directory(path.clone(), HostName::mirror()),
            (location, Some(bucket)) => BucketConfig { location: location.clone(), ..bucket.clone() },
            (_, None) => return Err(BucketFailure::NotConfigured),
        };
        Ok(Self::Objects(BucketStore::open(&config, Arc::default()).await?))
    }

    /// Checks that it is a cache of this store directory.
    pub(super) async fn check(&self, directory: &StoreDir) -> Result<(), BucketFailure> {
        let name = ObjectName::CacheInfo;
        let bytes = self.small(&name, MAX_INFO).await?.ok_or(BucketFailure::NoCache)?;
        let expected = directory.clone();
        check_cache_info(&bytes, directory).map_err(|found| BucketFailure::OtherStore { found, expected })
    }

    /// Gets the narinfo of a path; `None` if there is none.
    pub(super) async fn narinfo(&self, path: HashPart) -> Result<Option<Bytes>, BucketError> {
        self.small(&ObjectName::NarInfo(path), MAX_INFO).await
    }

    /// Opens the file at the URL of a narinfo; `None` if there is none.
    pub(super) async fn open_nar(&self, url: &str) -> Result<Option<SourceBody>, BucketError> {
        match self {
            Self::Web(cache) => Ok(cache.get(url).await?.map(SourceBody::Web)),
            Self::Objects(store) => {
                let Some(file) = NarFile::from_url(url) else { return Ok(None) };
                let body = store.read(&ObjectName::Nar(file), None, Patience::Background).await?;
                Ok(body.map(SourceBody::Object))
            }
        }
    }

    /// Gets an object that is read whole; `None` if there is none. One of more than `max` bytes is an error, or cut off somewhere
    /// behind them.
    pub(super) async fn small(&self, name: &ObjectName, max: usize) -> Result<Option<Bytes>, BucketError> {
        let cache = match self {
            Self::Web(cache) => cache,
            Self::Objects(store) => return store.get(name, max, Patience::Background).await,
        };
        let Some(mut body) = cache.get(&name.to_string()).await? else { return Ok(None) };
        let mut whole = BytesMut::new();
        while let Some(bytes) = body.next().await? {
            whole.extend_from_slice(&bytes);
            if whole.len() > max {
                // Refused by whoever reads it.
                break;
            }
        }
        Ok(Some(whole.freeze()))
    }
}

impl SourceBody {
    /// Returns the next bytes; `None` after the last ones.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        match self {
            Self::Web(body) => body.next().await,
            Self::Object(body) => body.next().await,
        }
    }
}
