//! In place of the bucket in a program that is built without it: there is none, so nothing here is ever called.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::narinfo::{Compression, NarInfo, Url};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::signature::PublicKey;
use harmonia_protocol::{HashPart, StorePath};

use crate::config::Config;
use crate::fairness::ClientId;
use crate::metrics::Metrics;
use crate::nar_cache::{EncodingTag, FileSource, NarCache};
use crate::signing::Signer;
use crate::store::Store;

#[path = "bucket/publish/progress.rs"]
mod progress;
pub(crate) use progress::{PublishProgress, Refused};

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

/// Name of the file of a NAR in the bucket, of which there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NarFile(Nothing);

/// Hash of such a file.
#[derive(Debug)]
pub(crate) struct FileHash(Nothing);

/// Private, so that the compiler does not warn of what comes after the calls that return one of these.
#[derive(Debug, Clone, Copy)]
enum Nothing {}

impl NarFile {
    pub(crate) const fn hash(self) -> FileHash {
        match self.0 {}
    }

    pub(crate) const fn compression(self) -> Compression {
        match self.0 {}
    }
}

impl FileHash {
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        match self.0 {}
    }
}

impl std::fmt::Display for FileHash {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {}
    }
}

impl BucketNarInfo {
    pub(crate) const fn nar_size(&self) -> u64 {
        match *self {}
    }

    pub(crate) const fn file(&self) -> NarFile {
        match *self {}
    }

    pub(crate) const fn file_size(&self) -> u64 {
        match *self {}
    }

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

/// Reason why paths are not queued, of which there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {}

impl Bucket {
    pub(crate) const fn serves_reads(&self) -> bool {
        match *self {}
    }

    pub(crate) fn update_index_metrics(&self) {
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

    pub(crate) fn nar_file(&self, _: &str) -> Option<NarFile> {
        match *self {}
    }

    pub(crate) fn narinfo_of_file(&self, _: NarFile) -> Option<Arc<BucketNarInfo>> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn file_size(&self, _: NarFile) -> Result<Option<u64>, Unreachable> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn redirect(&self, _: NarFile, _: u64) -> Option<String> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn open_file(
        &self,
        _: NarFile,
        _: u64,
        _: Range<u64>,
    ) -> Result<Box<dyn FileSource>, Unreachable> {
        match *self {}
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

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn run_publishing(&self, _: &Arc<Store>, _: &Arc<NarCache>, _: impl Fn() -> Arc<Signer>) {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn publish_new_paths(&self, _: &Arc<Store>) {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn announce_host(&self, _: &EncodingTag) {
        match *self {}
    }

    pub(crate) fn publish(&self, _: &[HashPart]) -> Result<u64, QueueError> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn publish_progress(&self, _: u64) -> Option<PublishProgress> {
        match *self {}
    }

    pub(crate) fn record_used(&self, _: &HashPart) {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn run_upkeep(&self, _: &Store) {
        match *self {}
    }

    pub(crate) fn record_served(&self, _: &HashPart) {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn has(&self, _: &HashPart) -> Option<bool> {
        match *self {}
    }

    pub(crate) fn is_queued(&self, _: &HashPart) -> bool {
        match *self {}
    }

    pub(crate) fn has_other_build(&self, _: &HashPart) -> bool {
        match *self {}
    }

    pub(crate) fn queued(&self) -> (usize, Duration) {
        match *self {}
    }

    pub(crate) const fn host(&self) -> &str {
        match *self {}
    }

    pub(crate) fn faults(&self) -> Vec<(HashPart, String)> {
        match *self {}
    }

    pub(crate) fn irreproducible(&self) -> Vec<HashPart> {
        match *self {}
    }

    pub(crate) fn update_queue_metrics(&self) {
        match *self {}
    }
}
