//! Tells the others who is there: the host file, put every few minutes while this host publishes.

use std::time::Duration;

use bytes::Bytes;

use crate::bucket::engine::{BucketError, Operation, Replace};
use crate::bucket::host_file::HostFile;
use crate::bucket::object_name::ObjectName;
use crate::bucket::state::Bucket;
use crate::config::Publish;
use crate::nar_cache::EncodingTag;
use crate::store::unix_time;

/// Time between two puts. A host that was not seen for several of them is away.
const EVERY: Duration = Duration::from_secs(300);
/// Pause after a put that failed.
const RETRY: Duration = Duration::from_secs(30);

impl Bucket {
    /// Puts the host file again and again, if this host publishes. Never returns.
    pub(crate) async fn announce_host(&self, encoding: &EncodingTag) {
        if self.config.publish == Publish::None {
            return std::future::pending().await;
        }
        loop {
            let put = self.put_host_file(encoding).await;
            let pause = if put.is_ok() { EVERY } else { RETRY };
            if let Err(error) = put {
                tracing::debug!("{error}");
            }
            tokio::time::sleep(pause).await;
        }
    }
    /// Puts the host file once.
    pub(super) async fn put_host_file(&self, encoding: &EncodingTag) -> Result<(), BucketError> {
        let host = &self.config.host;
        let mut file = HostFile::new(host, encoding.to_string(), unix_time());
        file.paths = self.publishing.count() as u64;
        file.queued = self.publishing.queue.len() as u64;
        let name = ObjectName::Host(host.clone());
        let text = file.render().map_err(|cause| BucketError::other(Operation::Put, name.to_string(), cause))?;
        self.store.put(&name, Bytes::from(text), Replace::Always).await.map(drop)
    }
}
