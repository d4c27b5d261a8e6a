//! The engines: a server with the S3 API, a directory, and memory for tests.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, RetryConfig, StaticCredentialProvider};

use super::credentials::{self, CredentialsError, FileCredentials};
use super::http_client::Http;
use super::upload_list::UploadList;
use super::upload_rate::UploadRate;
use crate::client_tls::system_roots;
use crate::config::{BucketConfig, BucketLocation, Credentials, HttpUrl};

/// Place of the objects.
#[derive(Debug)]
pub(super) enum Engine {
    /// A server, and where its uploads are listed if there is an access key.
    S3(Box<AmazonS3>, Option<Box<UploadList>>),
    /// Files, which are written at this rate.
    Directory(Box<LocalFileSystem>, Option<UploadRate>),
    #[cfg(test)]
    Memory(Arc<object_store::memory::InMemory>),
}

/// Reason why there is no object store to ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// No access key.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The directory cannot be used.
    #[error("cannot use {} as a bucket: {cause}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// No certificate authorities of the system.
    #[error("no certificate authorities for https: {0}\n  help: set SSL_CERT_FILE")]
    Roots(String),
    /// Settings that `object_store` refuses.
    #[error("cannot use the bucket: {0}")]
    Settings(object_store::Error),
    /// The runtime ends.
    #[error("the runtime ends")]
    Ended,
}

impl Engine {
    /// Opens an engine. Blocks on the disk.
    pub(super) fn open(config: &BucketConfig) -> Result<Self, OpenError> {
        let bucket = match &config.location {
            BucketLocation::S3 { bucket, .. } => bucket,
            BucketLocation::Directory(path) => {
                let error = |cause| OpenError::Directory { path: path.clone(), cause };
                std::fs::create_dir_all(path).map_err(error)?;
                let store = LocalFileSystem::new_with_prefix(path).map_err(|cause| error(io::Error::other(cause)))?;
                // As durable as a bucket: what is published may be deleted elsewhere.
                let rate = config.max_upload_rate.map(|rate| UploadRate::new(rate.bytes()));
                return Ok(Self::Directory(Box::new(store.with_fsync(true)), rate));
            }
        };
        let is_tls = config.endpoint.as_ref().is_none_or(HttpUrl::is_tls);
        let roots = is_tls.then(system_roots).transpose().map_err(OpenError::Roots)?;
        let rate = config.max_upload_rate.map(|rate| UploadRate::new(rate.bytes()));
        let http = Http::new(roots, rate).map_err(OpenError::Roots)?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&config.region)
            .with_allow_http(!is_tls)
            // TLS, or the operator's network, protects the payload; hashing it once more takes as long as compressing it.
            .with_unsigned_payload(true)
            // Not all servers can delete several objects at once, and one is mostly all there is.
            .with_disable_bulk_delete(true)
            .with_http_connector(http.clone())
            // Attempts are counted and paused in `store`.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.as_str());
        }
        builder = match &config.credentials {
            Credentials::File(path) => {
                credentials::read(path)?;
                builder.with_credentials(Arc::new(FileCredentials::new(path.clone())))
            }
            Credentials::Variables(key) => {
                builder.with_credentials(Arc::new(StaticCredentialProvider::new(credentials::plain(key))))
            }
            Credentials::Anonymous => builder.with_skip_signature(true),
        };
        let endpoint = config.endpoint.as_ref().map_or_else(
            || format!("https://s3.{}.amazonaws.com", config.region),
            |endpoint| endpoint.as_str().trim_end_matches('/').to_owned(),
        );
        let url = format!("{endpoint}/{bucket}");
        let uploads = (config.credentials != Credentials::Anonymous)
            .then(|| Box::new(UploadList { http, url, region: config.region.clone() }));
        builder.build().map(|store| Self::S3(Box::new(store), uploads)).map_err(OpenError::Settings)
    }

    /// Returns what all engines can do.
    pub(super) fn objects(&self) -> &dyn ObjectStore {
        match self {
            Self::S3(store, _) => &**store,
            Self::Directory(store, _) => &**store,
            #[cfg(test)]
            Self::Memory(store) => store,
        }
    }

    /// Returns uploads in parts that survive a restart, if the engine has them.
    pub(super) fn parts(&self) -> Option<&dyn MultipartStore> {
        match self {
            Self::S3(store, _) => Some(&**store),
            Self::Directory(..) => None,
            #[cfg(test)]
            Self::Memory(store) => Some(&**store),
        }
    }

    /// Returns what signs URLs, if the engine has an access key.
    pub(super) fn signer(&self) -> Option<&AmazonS3> {
        match self {
            Self::S3(store, _) => Some(store),
            Self::Directory(..) => None,
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }

    /// Returns the server and where its uploads are listed, if it has such a list.
    pub(super) fn upload_list(&self) -> Option<(&AmazonS3, &UploadList)> {
        match self {
            Self::S3(store, list) => list.as_ref().map(|list| (&**store, &**list)),
            Self::Directory(..) => None,
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }

    /// Waits until so many bytes may be written to a file. Those that are sent to a server are paced on their way.
    pub(super) async fn wait_to_write(&self, bytes: usize) {
        if let Self::Directory(_, Some(rate)) = self {
            tokio::time::sleep_until(rate.reserve(bytes, Instant::now()).into()).await;
        }
    }

    pub(super) const fn has_content_types(&self) -> bool {
        matches!(self, Self::S3(..))
    }

    pub(super) const fn lists_in_order(&self) -> bool {
        !matches!(self, Self::Directory(..))
    }
}
