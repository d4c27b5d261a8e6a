//! Paths that the store does not have, and another host has published.
//!
//! They are looked up when the store has failed to serve a path, and only for clients that see everything: what is in a view
//! is decided by the store of this host. What an operator hides here stays hidden, whoever has published it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use harmonia_protocol::{HashPart, StorePath};

use crate::access::Visible;
use crate::bucket::{Bucket, BucketNarInfo};
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::{NotFound, Reason};
use crate::http::request::context::RequestCx;
use crate::store::PathStatus;

/// Upper bound of a closure that is walked through for what hides its referrers. A larger one is hidden, since its end is not
/// seen.
const MAX_CLOSURE: usize = 20_000;

impl App {
    /// Returns the bucket, if paths in it are served to this client for which the store has failed with this error.
    pub(crate) fn bucket_after(&self, why: &HandlerError, cx: RequestCx<'_>) -> Option<&Arc<Bucket>> {
        let bucket = self.bucket.as_ref().filter(|bucket| bucket.serves_reads())?;
        let sees_all = matches!(cx.granted.views, Visible::All);
        (sees_all && may_be_elsewhere(why)).then_some(bucket)
    }

    /// Returns the build of a path in the bucket, if that is another one than this host's: all hosts serve the same. While the
    /// bucket is unreachable this host serves its own, which is as valid.
    pub(crate) async fn other_build(&self, hash: HashPart, cx: RequestCx<'_>) -> Option<Arc<BucketNarInfo>> {
        let bucket = self.bucket.as_ref().filter(|bucket| bucket.serves_reads() && bucket.has_other_build(&hash))?;
        if !matches!(cx.granted.views, Visible::All) {
            return None;
        }
        bucket.narinfo(hash, cx.client).await.ok()?
    }

    /// Returns a path that the store has failed with this error to serve, if the bucket has it; else this error.
    pub(crate) async fn path_in_bucket(
        &self,
        hash: HashPart,
        cx: RequestCx<'_>,
        why: HandlerError,
    ) -> Result<Arc<BucketNarInfo>, HandlerError> {
        let Some(bucket) = self.bucket_after(&why, cx) else { return Err(why) };
        if self.store.is_known_hidden(hash) {
            return Err(NotFound::Hidden.into());
        }
        let Some(narinfo) = bucket.narinfo(hash, cx.client).await? else { return Err(why) };
        if self.hides_in_bucket(bucket, &narinfo, cx).await? {
            return Err(NotFound::Hidden.into());
        }
        Ok(narinfo)
    }

    /// Returns the path with this hash part that this host serves, whether the store has it or the bucket.
    pub(crate) async fn path_anywhere(&self, hash: HashPart, cx: RequestCx<'_>) -> Result<StorePath, HandlerError> {
        match self.valid_path(hash, cx).await {
            Ok(valid) => Ok(valid.path.clone()),
            Err(why) => Ok(self.path_in_bucket(hash, cx, why).await?.path().clone()),
        }
    }

    /// Returns whether the closure of a path has one that hides its referrers.
    async fn hides_in_bucket(
        &self,
        bucket: &Arc<Bucket>,
        narinfo: &BucketNarInfo,
        cx: RequestCx<'_>,
    ) -> Result<bool, HandlerError> {
        if !self.store.hides_referrers() {
            return Ok(false);
        }
        let (changes, is_known) = self.store.knows_nothing_hides(narinfo.path().hash_part());
        if is_known {
            return Ok(false);
        }
        let mut pending: VecDeque<_> = narinfo.references().collect();
        let mut seen: HashSet<_> = pending.iter().copied().collect();
        seen.insert(narinfo.path().hash_part());
        while let Some(hash) = pending.pop_front() {
            if self.store.hides_referrers_of(hash) || seen.len() > MAX_CLOSURE {
                return Ok(true);
            }
            let references: Vec<_> = match self.store.path_status(hash, cx.client).await? {
                PathStatus::Hidden(Some(valid)) => valid.info.reference_paths().map(|it| it.hash_part()).collect(),
                // It would be hidden, if its closure had one.
                PathStatus::Valid(_) | PathStatus::Quarantined(_) => Vec::new(),
                PathStatus::NotValid | PathStatus::Hidden(None) if self.store.knows_nothing_hides(hash).1 => Vec::new(),
                PathStatus::NotValid | PathStatus::Hidden(None) => {
                    let found = bucket.narinfo(hash, cx.client).await?;
                    found.iter().flat_map(|it| it.references()).collect()
                }
            };
            pending.extend(references.into_iter().filter(|reference| seen.insert(*reference)));
        }
        self.store.remember_nothing_hides(changes, seen);
        Ok(false)
    }
}

/// Returns whether another host may serve what the store of this one does not: the store does not have it, has it in a state in
/// which it is not served, or does not answer.
fn may_be_elsewhere(why: &HandlerError) -> bool {
    match why.reason() {
        Reason::NotFound(why) => {
            matches!(why, NotFound::NotValid | NotFound::Untrusted | NotFound::Quarantined | NotFound::NoLog)
        }
        Reason::AuditLogError | Reason::BucketUnreachable => false,
        _ => matches!(why, HandlerError::Store(_)),
    }
}
