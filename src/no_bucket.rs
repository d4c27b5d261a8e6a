//! In place of the bucket in a program that is built without it: there is none, so nothing here is ever called.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::narinfo::{NarInfo, Url};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::signature::PublicKey;
use harmonia_protocol::{HashPart, StorePath};

use crate::config::Config;
use crate::fairness::ClientId;
use crate::metrics::Metrics;

/// A bucket, of which there is none.
#[derive(Debug)]
pub(crate) enum Bucket {}

/// Reason why there is no bucket to ask, of which there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {}

/// A narinfo of the bucket, of which there is none.
#[derive(Debug)]
pub(crate) enum BucketNarInfo {}

/// Reason why a lookup in the bucket has no result, of which there is none.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unreachable {}

impl BucketNarInfo {
    pub(crate) fn for_client(&self, _: Option<Url>) -> Cow<'_, NarInfo> {
        match *self {}
    }

    pub(crate) const fn path(&self) -> &StorePath {
        match *self {}
    }

    pub(crate) const fn nar_hash(&self) -> NarHash {
        match *self {}
    }

    pub(crate) fn path_info(&self) -> PathInfo {
        match *self {}
    }

    pub(crate) fn references(&self) -> impl Iterator<Item = HashPart> + '_ {
        match *self {}
        #[allow(unreachable_code, reason = "names the type")]
        std::iter::empty()
    }
}

impl Bucket {
    pub(crate) const fn serves_reads(&self) -> bool {
        match *self {}
    }

    pub(crate) fn check_reached(&self) -> Result<(), Unreachable> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn listing(&self, _: HashPart) -> Result<Option<Bytes>, Unreachable> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn build_log(&self, _: StorePath) -> Result<Option<Bytes>, Unreachable> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn narinfo(
        self: &Arc<Self>,
        _: HashPart,
        _: ClientId,
    ) -> Result<Option<Arc<BucketNarInfo>>, Unreachable> {
        match **self {}
    }

    /// Returns `None`.
    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn open(_: &Config, _: &Arc<Metrics>) -> Result<Option<Arc<Self>>, OpenError> {
        Ok(None)
    }

    pub(crate) fn set_own_keys<'a>(&self, _: impl Iterator<Item = &'a PublicKey>) {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn run_index(&self) {
        match *self {}
    }
}
