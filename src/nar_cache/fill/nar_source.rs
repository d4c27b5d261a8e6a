//! Sources of the NARs that are compressed: the store, or a file from elsewhere.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::fairness::{ClientId, Permit};
use crate::nar_cache::error::FillError;
use crate::nar_cache::fetch::source::FileSource as _;
use crate::nar_cache::fetch::verified::VerifiedStream;
use crate::store::{NarOptions, Store, ValidPath, VerifyingNar};

/// Where a fill reads its NAR.
pub(crate) enum NarSource {
    /// The path is valid.
    Store,
    /// The NAR is decoded from a file. The permit is held for the memory of the decoder.
    Elsewhere(OpenNar),
}

/// Future that opens a NAR at its first byte.
pub(crate) type OpenNar = Pin<Box<dyn Future<Output = io::Result<(VerifiedStream, Permit)>> + Send>>;

/// A NAR that ends without an error only if it is the right one.
pub(crate) enum Nar {
    Store(VerifyingNar),
    Elsewhere(VerifiedStream, #[allow(dead_code, reason = "held")] Permit),
}

impl NarSource {
    pub(super) async fn open(self, store: &Store, valid: &Arc<ValidPath>) -> Result<Nar, FillError> {
        Ok(match self {
            // It is read as fast as it is encoded, whoever waits for it, and uses nothing of a client's share.
            Self::Store => Nar::Store(store.nar(valid, NarOptions::for_cache(), ClientId::Server).await?),
            Self::Elsewhere(open) => {
                let (nar, permit) = open.await.map_err(|cause| FillError::fetch(&cause))?;
                Nar::Elsewhere(nar, permit)
            }
        })
    }
}

impl Nar {
    /// Returns the next bytes; `None` after the last ones. Cancel safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, FillError> {
        match self {
            Self::Store(nar) => Ok(nar.chunk().await?),
            Self::Elsewhere(nar, _) => {
                let piece = poll_fn(|context| nar.poll_piece(context)).await;
                piece.map_err(|cause| FillError::fetch(&cause))
            }
        }
    }
}
