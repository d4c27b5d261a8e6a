//! Access key of the object store, from a file that is read again when it changes.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use crate::config::{AccessKey, AccessKeyError};
use crate::sync::Mutex;

/// Upper bound of the file's size, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Time for which the file is not looked at again. A key that was replaced is used at most this long.
const FRESH: Duration = Duration::from_secs(5);

/// Reason why there is no access key. It never contains one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// Error of the system.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// The file is too long.
    #[error("{} has more than {MAX_FILE} bytes", path.display())]
    TooLong {
        /// Path of the file.
        path: PathBuf,
    },
    /// There is no access key in it.
    #[error(
        "{}: {cause}\n  help: write the lines AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=...", path.display()
    )]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// The fault.
        cause: AccessKeyError,
    },
}

/// Reads and parses the file. Blocks on the disk.
pub(crate) fn read(path: &Path) -> Result<AccessKey, CredentialsError> {
    let unreadable = |cause| CredentialsError::Read { path: path.to_owned(), cause };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE {
        return Err(CredentialsError::TooLong { path: path.to_owned() });
    }
    AccessKey::parse(&text).map_err(|cause| CredentialsError::Malformed { path: path.to_owned(), cause })
}

/// Converts an access key for `object_store`.
pub(super) fn plain(key: &AccessKey) -> AwsCredential {
    AwsCredential {
        key_id: key.id.to_string(),
        secret_key: key.secret.reveal().to_owned(),
        token: key.token.as_ref().map(|token| token.reveal().to_owned()),
    }
}

/// Provider of the access key in a file.
pub(super) struct FileCredentials {
    path: PathBuf,
    last: Mutex<Option<Last>>,
}

struct Last {
    credential: Arc<AwsCredential>,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl std::fmt::Debug for FileCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileCredentials").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileCredentials {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::new(None) }
    }

    async fn current(&self) -> Result<Arc<AwsCredential>, CredentialsError> {
        let known = self.last.lock().as_ref().map(|last| (Arc::clone(&last.credential), last.modified, last.looked));
        if let Some((credential, _, looked)) = &known {
            if looked.elapsed() < FRESH {
                return Ok(Arc::clone(credential));
            }
        }
        let (path, before) = (self.path.clone(), known.as_ref().and_then(|(_, modified, _)| *modified));
        let looked = tokio::task::spawn_blocking(move || {
            let modified = path.metadata().and_then(|metadata| metadata.modified()).ok();
            let is_same = modified.is_some() && modified == before;
            (modified, if is_same { None } else { Some(read(&path)) })
        });
        let lost = |cause| CredentialsError::Read { path: self.path.clone(), cause: io::Error::other(cause) };
        let (modified, new) = looked.await.map_err(|_| lost("the runtime ends"))?;
        let credential = match (new, known) {
            (None, Some((credential, ..))) => credential,
            (Some(Ok(key)), _) => Arc::new(plain(&key)),
            // A file that is being replaced; the key that was read before serves until its server refuses it.
            (Some(Err(error)), Some((credential, ..))) => {
                tracing::warn!("using the access key that was read before: {error}");
                credential
            }
            (Some(Err(error)), None) => return Err(error),
            (None, None) => return Err(lost("not read")),
        };
        *self.last.lock() = Some(Last { credential: Arc::clone(&credential), modified, looked: Instant::now() });
        Ok(credential)
    }
}

impl CredentialProvider for FileCredentials {
    type Credential = AwsCredential;

    // As the macro `async_trait` writes it.
    fn get_credential<'provider, 'call>(
        &'provider self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'call>>
    where
        'provider: 'call,
        Self: 'call,
    {
        Box::pin(async move {
            let error = |cause| object_store::Error::Generic { store: "credentials", source: Box::new(cause) };
            self.current().await.map_err(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_that_is_replaced_is_used_without_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let write = |id: &str, time| {
            std::fs::write(&path, format!("AWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY=s\n")).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        let credentials = FileCredentials::new(path.clone());
        assert!(credentials.current().await.is_err(), "there is no file");
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        write("first", then);
        assert_eq!(credentials.current().await.unwrap().key_id, "first");
        write("second", then + Duration::from_secs(1));
        assert_eq!(credentials.current().await.unwrap().key_id, "first", "looked at a moment ago");
        let stale = |credentials: &FileCredentials| {
            let mut last = credentials.last.lock();
            let last = last.as_mut().unwrap();
            last.looked = last.looked.checked_sub(FRESH).unwrap();
        };
        stale(&credentials);
        assert_eq!(credentials.current().await.unwrap().key_id, "second");
        std::fs::remove_file(&path).unwrap();
        stale(&credentials);
        assert_eq!(credentials.current().await.unwrap().key_id, "second", "the last one serves");
    }
}
