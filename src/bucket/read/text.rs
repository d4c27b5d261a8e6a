//! Listings and build logs of the bucket. Nobody has signed them: they are whatever somebody who may write to the bucket wrote.

use bytes::Bytes;
use harmonia_protocol::{HashPart, StorePath};

use super::unreachable::Unreachable;
use crate::bucket::engine::{FailureKind, Patience};
use crate::bucket::object_name::ObjectName;
use crate::bucket::state::Bucket;

/// Upper bound of a text, in bytes. It is in memory while it is sent.
const MAX_TEXT: usize = 8 << 20;

impl Bucket {
    /// Returns the listing of a path's files, as JSON; `None` if there is none, or only a compressed one.
    pub(crate) async fn listing(&self, path: HashPart) -> Result<Option<Bytes>, Unreachable> {
        let listing = self.text(&ObjectName::Listing(path)).await?;
        // Nix compresses listings where that is configured, and says so in a header that is not read.
        Ok(listing.filter(|text| text.starts_with(b"{")))
    }

    /// Returns the log of a derivation's build; `None` if there is none.
    pub(crate) async fn build_log(&self, derivation: StorePath) -> Result<Option<Bytes>, Unreachable> {
        self.text(&ObjectName::Log(derivation)).await
    }

    async fn text(&self, name: &ObjectName) -> Result<Option<Bytes>, Unreachable> {
        if !self.narinfos.breaker.admits() {
            return Err(Unreachable::Pausing);
        }
        let text = self.store.get(name, MAX_TEXT, Patience::Client).await;
        match &text {
            Err(error) if error.kind.may_pass() => self.narinfos.breaker.failed(),
            _ => self.narinfos.breaker.succeeded(),
        }
        match text {
            // Nothing that a client may be told of depends on it.
            Err(error) if error.kind == FailureKind::Other => {
                tracing::debug!("{error}");
                Ok(None)
            }
            text => Ok(text?),
        }
    }
}
