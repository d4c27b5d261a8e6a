//! The steps from a checked narinfo and an uploaded file to a valid path that is kept.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::{HashPart, StorePath};

use crate::fairness::ClientId;
use crate::nar_cache::NarCache;
use crate::push::error::PushError;
use crate::push::keep::Keep;
use crate::push::nar_check::{CheckedNar, Expected, NarFault};
use crate::push::narinfo::{NarInfoFault, PushRules, PushedNarInfo};
use crate::push::refusal;
use crate::push::spool::Owner;
use crate::push::uploaded_paths::UploadedPaths;
use crate::store::{AddError, Adding, PathStatus, Store, StoreError, ValidPath};
use crate::sync::Mutex;

/// An uploaded file, complete and with the hash in its name.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// The file, open for reading at its start.
    pub(crate) file: File,
    /// Size of the file, in bytes.
    pub(crate) size: u64,
}

/// Whom a push is from, and what they see of the store.
#[derive(Debug)]
pub(crate) struct Sender {
    /// Whom time and memory count for.
    pub(crate) client: ClientId,
    /// Whose uploads are used.
    pub(crate) owner: Owner,
    /// Whether the principal sees the path, if it is valid.
    pub(crate) sees_path: bool,
    /// References that the principal's views do not show.
    pub(crate) unseen_references: Vec<StorePath>,
}

/// Result of a push.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The path was added.
    Added(Arc<ValidPath>),
    /// The path was valid before, with the same NAR.
    AlreadyValid,
}

/// Adds pushed paths to the store.
#[derive(Debug)]
pub(crate) struct Pusher {
    store: Arc<Store>,
    nar_cache: Option<Arc<NarCache>>,
    rules: Mutex<Arc<PushRules>>,
    keep: Keep,
    uploaded: UploadedPaths,
}

impl Pusher {
    /// Creates a pusher. Paths that it adds are compressed for `nar_cache`, and kept by symlinks in `keep`.
    pub(crate) fn new(store: Arc<Store>, nar_cache: Option<Arc<NarCache>>, rules: PushRules, keep: Keep) -> Self {
        Self { store, nar_cache, rules: Mutex::new(Arc::new(rules)), keep, uploaded: UploadedPaths::new() }
    }

    /// Replaces what later pushes have to comply with.
    pub(crate) fn set_rules(&self, rules: PushRules, keep: Duration) {
        *self.rules.lock() = Arc::new(rules);
        self.keep.set_length(keep);
    }

    /// Checks the body of a request for the narinfo of `hash`. The result names the uploaded file that has the NAR.
    pub(crate) fn check(&self, body: &[u8], hash: HashPart) -> Result<PushedNarInfo, NarInfoFault> {
        let rules = Arc::clone(&self.rules.lock());
        PushedNarInfo::parse(body, hash, &rules)
    }

    /// Records that a path was asked for, so that one that was pushed is kept for longer.
    pub(crate) fn record_asked_for(&self, hash: HashPart) {
        self.keep.record_asked_for(hash);
    }

    /// Keeps pushed paths that were asked for, and lets go of those that were not for long. Never returns.
    pub(crate) async fn run_keep(&self) {
        self.keep.run().await;
    }

    /// Makes a pushed path valid: with the file that this principal uploaded, or without one if the path is valid already.
    ///
    /// Returns once nix-daemon has called the path valid and a GC root keeps it. If the future is dropped before, the path
    /// is either not valid, or valid as any path that was pushed and not kept.
    ///
    /// To a principal that does not see the path, one that is valid is as one that is not: its NAR has to be uploaded, and
    /// is checked and given to nix-daemon, which checks its signature and ignores it. A reference that it does not see is as one
    /// that is not valid, unless it has uploaded that NAR before.
    pub(crate) async fn accept(
        &self,
        pushed: PushedNarInfo,
        spooled: Option<Spooled>,
        sender: Sender,
    ) -> Result<Outcome, PushError> {
        let Sender { client, owner, sees_path: sees, mut unseen_references } = sender;
        let PushedNarInfo { path, info, .. } = &pushed;
        let unavailable = |cause: StoreError| PushError::Daemon { path: path.clone(), cause };
        let mut adding = self.store.begin_add(path, &info.references, client).await.map_err(unavailable)?;
        let valid = adding.path_info().await.map_err(unavailable)?;
        if let Some(valid) = valid.filter(|_| sees) {
            same_nar(&pushed, &valid)?;
            self.keep_root(&pushed, &mut adding).await?;
            return Ok(Outcome::AlreadyValid);
        }
        let Some(spooled) = spooled else { return Err(PushError::NotUploaded(pushed.file)) };
        unseen_references.retain(|it| !self.uploaded.contains(owner, it.hash_part()));
        if let Some(reference) = adding.missing_reference(&unseen_references).await.map_err(unavailable)? {
            return Err(PushError::MissingReference { path: path.clone(), reference });
        }
        add(&pushed, spooled, &mut adding).await?;
        let added = match self.store.fresh_path_status(path.hash_part(), client).await.map_err(unavailable)? {
            // One that is hidden from readers is stored all the same.
            PathStatus::Valid(valid) | PathStatus::Quarantined(valid) | PathStatus::Hidden(Some(valid)) => valid,
            PathStatus::NotValid | PathStatus::Hidden(None) => {
                return Err(unavailable(StoreError::NotValid(path.clone())));
            }
        };
        match same_nar(&pushed, &added.info.to_path_info()) {
            Err(other) if !sees => {
                tracing::warn!("ignored a push by a principal that does not see the path: {other}");
                return Ok(Outcome::AlreadyValid);
            }
            same => same?,
        }
        self.keep_root(&pushed, &mut adding).await?;
        if !sees {
            self.uploaded.insert(owner, path.hash_part());
        }
        if let Some(nar_cache) = &self.nar_cache {
            nar_cache.precompress(&added, client);
        }
        Ok(Outcome::Added(added))
    }

    /// Keeps a valid path, which has a temporary root on this connection, by an indirect root.
    async fn keep_root(&self, pushed: &PushedNarInfo, adding: &mut Adding<'_>) -> Result<(), PushError> {
        let not_kept = |cause: String| PushError::NotKept { path: pushed.path.clone(), cause };
        let target = self.store.directory().full_path(&pushed.path);
        let link = self.keep.create(pushed.path.hash_part(), target).await;
        let link = link.map_err(|error| not_kept(error.to_string()))?;
        adding.add_indirect_root(&link).await.map_err(|error| not_kept(error.to_string()))
    }
}

/// Fails if a valid path has another NAR than was pushed.
fn same_nar(pushed: &PushedNarInfo, valid: &PathInfo) -> Result<(), PushError> {
    if valid.nar_hash == pushed.info.nar_hash {
        return Ok(());
    }
    let (path, pushed) = (pushed.path.clone(), pushed.info.nar_hash);
    Err(PushError::OtherNar { path, valid: valid.nar_hash, pushed })
}

/// Decodes an uploaded file and adds the path with the NAR in it.
async fn add(pushed: &PushedNarInfo, spooled: Spooled, adding: &mut Adding<'_>) -> Result<(), PushError> {
    let PushedNarInfo { path, info, file_size, compression, unchecked, .. } = pushed;
    let wrong = |fault: NarFault| PushError::Nar { path: path.clone(), fault };
    if let Some(expected) = file_size.filter(|expected| *expected != spooled.size) {
        return Err(wrong(NarFault::FileSize { expected, found: spooled.size }));
    }
    let expected = Expected { nar_size: info.nar_size, nar_hash: info.nar_hash, content_address: unchecked.clone() };
    let mut nar = CheckedNar::start(spooled.file, *compression, expected);
    let added = adding.add(info, &mut nar).await;
    if added.is_ok() {
        // Nix 2.3 reads nothing if the path has become valid.
        let _ = tokio::io::copy(&mut nar, &mut tokio::io::sink()).await;
    }
    // It may be the reason for what nix-daemon says.
    if let Some(fault) = nar.fault() {
        return Err(wrong(fault.clone()));
    }
    match added {
        Ok(()) => Ok(()),
        Err(AddError::Refused(message)) => Err(refusal::error(path, &message)),
        Err(AddError::Source) => Err(wrong(NarFault::File("decoding it was aborted".into()))),
        Err(AddError::Store(cause)) => Err(PushError::Daemon { path: path.clone(), cause }),
    }
}
