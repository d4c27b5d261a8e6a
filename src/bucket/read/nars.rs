//! Files of NARs in the bucket: which are known, where clients can get them, and their bytes.
//!
//! The name of a file is its hash, so nothing but its name has to be known to serve it. What the narinfos that were read say of it
//! spares a request, and says which path it is of.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::file_reader::FileReader;
use super::unreachable::Unreachable;
use crate::bucket::engine::{FailureKind, Patience};
use crate::bucket::file_hash::NarFile;
use crate::bucket::narinfo::BucketNarInfo;
use crate::bucket::object_name::ObjectName;
use crate::bucket::state::Bucket;
use crate::config::{Credentials, RedirectFrom};
use crate::nar_cache::FileSource;

/// Time for which a signed URL is good. A download has to begin within it.
const URL_TIME: Duration = Duration::from_secs(3600);

impl Bucket {
    /// Parses the name of a file below `nar/`.
    #[allow(clippy::unused_self, reason = "without a bucket there are no such names")]
    pub(crate) fn nar_file(&self, name: &str) -> Option<NarFile> {
        NarFile::parse(name)
    }

    /// Returns a narinfo that names this file, if one was read lately.
    pub(crate) fn narinfo_of_file(&self, file: NarFile) -> Option<Arc<BucketNarInfo>> {
        self.files.find(&file)
    }

    /// Returns the size of a file in bytes, as its narinfo has it if that is known; `None` if the bucket has no such file.
    pub(crate) async fn file_size(&self, file: NarFile) -> Result<Option<u64>, Unreachable> {
        if let Some(narinfo) = self.narinfo_of_file(file) {
            return Ok(Some(narinfo.file_size()));
        }
        self.admit()?;
        let found = self.store.head(&ObjectName::Nar(file), Patience::Client).await;
        self.note(found.as_ref().err().map(|error| error.kind));
        Ok(found?.map(|info| info.size))
    }

    /// Returns the URL that a client is sent to for a file of this size; `None` if this host has to send it.
    pub(crate) async fn redirect(&self, file: NarFile, size: u64) -> Option<String> {
        let RedirectFrom::Size(from) = self.config.redirect_from else { return None };
        if size < from.bytes() {
            return None;
        }
        let name = ObjectName::Nar(file);
        let url = match &self.config.public_url {
            Some(base) => format!("{}/{name}", base.as_str()),
            // Where anybody may read the objects, the operator says so by `public_url`.
            None if self.config.credentials == Credentials::Anonymous => return None,
            None => {
                let signed = self.store.sign_get(&name, URL_TIME).await;
                signed
                    .inspect_err(|error| tracing::warn!("sending {name} instead of a redirect to it: {error}"))
                    .ok()??
            }
        };
        self.metrics.bucket.record_redirect();
        Some(url)
    }

    /// Opens a range of a file of this size. It is an error too if the bucket does not have it: clients were told that it does.
    pub(crate) async fn open_file(
        &self,
        file: NarFile,
        size: u64,
        range: Range<u64>,
    ) -> Result<Box<dyn FileSource>, Unreachable> {
        self.admit()?;
        let opened = FileReader::open(&self.store, ObjectName::Nar(file), size, range).await;
        self.note(match &opened {
            Err(Unreachable::Failed(error)) => Some(error.kind),
            _ => None,
        });
        let reader = opened?.ok_or(Unreachable::Lagging)?;
        self.metrics.bucket.record_opened();
        Ok(Box::new(reader))
    }

    /// Fails if requests have failed a moment ago.
    fn admit(&self) -> Result<(), Unreachable> {
        if self.narinfos.breaker.admits() { Ok(()) } else { Err(Unreachable::Pausing) }
    }

    /// Notes how a request has failed, if it has.
    fn note(&self, failure: Option<FailureKind>) {
        match failure {
            Some(FailureKind::SlowDown | FailureKind::Unavailable) => self.narinfos.breaker.failed(),
            _ => self.narinfos.breaker.succeeded(),
        }
    }
}
