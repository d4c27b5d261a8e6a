//! Decides whether a path is hidden, by itself or by what it refers to.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use harmonia_protocol::{HashPart, StorePath};

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::hidden::file::HiddenError;
use crate::store::hidden::hidden_path::HiddenPath;
use crate::store::hidden::set::Verdict;
use crate::store::path_info::lookup::PathStatus;
use crate::store::path_info::prefetch_queue::BATCH;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// Upper bound of a closure that is walked through, at a hundred bytes for each path. A larger one is hidden, since its end
/// is not seen.
const MAX_CLOSURE: usize = 1 << 18;

impl Store {
    /// Reads the paths that are hidden. Blocks on the disk.
    pub(crate) fn load_hidden(&self) -> Result<(), HiddenError> {
        self.hidden.load()
    }

    /// Hides a path, valid or not, and with `referrers` all whose closure has it.
    pub(crate) async fn hide(&self, path: HiddenPath) -> Result<(), HiddenError> {
        self.hidden.hide(path).await
    }

    /// Adds what nix-daemon says of a hidden path: its name and its derivation. Returns `None` if it is shown again.
    pub(crate) async fn name_hidden(&self, valid: &ValidPath) -> Result<Option<HiddenPath>, HiddenError> {
        let hash = valid.path.hash_part();
        let (name, deriver) = (valid.path.base_name(), valid.info.deriver());
        self.hidden.name(hash, name, deriver).await?;
        Ok(self.hidden.get(hash))
    }

    /// Shows a path again; `None` if it was not hidden itself.
    pub(crate) async fn unhide(&self, hash: HashPart) -> Result<Option<HiddenPath>, HiddenError> {
        self.hidden.unhide(hash).await
    }

    /// Returns the paths that are hidden themselves.
    pub(crate) fn hidden(&self) -> Vec<HiddenPath> {
        self.hidden.all()
    }

    /// Returns whether any path is hidden.
    pub(crate) fn has_hidden(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// Returns the hidden path that hides this one, if that is known: itself, or one in its closure.
    pub(crate) fn hidden_by(&self, hash: HashPart) -> Option<HiddenPath> {
        let Verdict::HiddenBy(by) = self.hidden.state().verdict(hash) else { return None };
        self.hidden.get(by)
    }

    /// Returns whether the path with this hash part is known to be hidden.
    pub(crate) fn is_known_hidden(&self, hash: HashPart) -> bool {
        !self.hidden.is_empty() && matches!(self.hidden.state().verdict(hash), Verdict::HiddenBy(_))
    }

    /// Returns whether any path hides those that refer to it.
    pub(crate) fn hides_referrers(&self) -> bool {
        self.has_hidden() && self.hidden.state().follows_referrers()
    }

    /// Returns the number of changes of what is hidden, and whether nothing in the closure of a path of another host is known to
    /// hide it.
    pub(crate) fn knows_nothing_hides(&self, hash: HashPart) -> (u64, bool) {
        let state = self.hidden.state();
        (state.changes, state.verdict(hash) == Verdict::NotHidden)
    }

    /// Remembers that nothing in the closures of these paths hides them, unless there was a change since.
    pub(crate) fn remember_nothing_hides(&self, changes: u64, paths: impl IntoIterator<Item = HashPart>) {
        self.hidden.state().remember(changes, paths, None);
    }

    /// Returns whether the path with this hash part hides those that refer to it.
    pub(crate) fn hides_referrers_of(&self, hash: HashPart) -> bool {
        self.has_hidden() && self.hidden.state().hides_referrers_of(hash)
    }

    /// Returns whether this path is known not to be hidden.
    pub(crate) fn is_known_not_hidden(&self, valid: &ValidPath) -> bool {
        self.hidden.is_empty() || self.hidden.state().verdict(valid.path.hash_part()) == Verdict::NotHidden
    }

    /// Returns whether a valid path is hidden. May query nix-daemon for its closure.
    pub(crate) async fn is_hidden(&self, valid: &ValidPath, client: ClientId) -> Result<bool, StoreError> {
        if self.hidden.is_empty() {
            return Ok(false);
        }
        // Boxed, so that the future of every request stays small.
        Box::pin(self.finds_hidden(valid, client)).await
    }

    /// Returns whether a path is hidden, valid or not.
    pub(crate) async fn hides(&self, path: &StorePath, client: ClientId) -> Result<bool, StoreError> {
        if self.hidden.is_empty() {
            return Ok(false);
        }
        Ok(matches!(self.path_status(path.hash_part(), client).await?, PathStatus::Hidden(_)))
    }

    /// Replaces the status of a hidden path.
    pub(crate) async fn unless_hidden(
        &self,
        hash: HashPart,
        status: PathStatus,
        client: ClientId,
    ) -> Result<PathStatus, StoreError> {
        let is_hidden = match &status {
            PathStatus::Valid(valid) | PathStatus::Quarantined(valid) => self.is_hidden(valid, client).await?,
            PathStatus::NotValid | PathStatus::Hidden(_) => self.hidden.state().paths.contains_key(&hash),
        };
        Ok(match status {
            PathStatus::Valid(valid) | PathStatus::Quarantined(valid) if is_hidden => PathStatus::Hidden(Some(valid)),
            PathStatus::NotValid if is_hidden => PathStatus::Hidden(None),
            status => status,
        })
    }

    /// Returns whether the build log of this derivation or output is hidden: it, its derivation, or an output.
    pub(crate) async fn hides_log(&self, hash: HashPart, client: ClientId) -> Result<bool, StoreError> {
        if self.hidden.is_empty() {
            return Ok(false);
        }
        if self.hidden.hides_log_of(hash) {
            return Ok(true);
        }
        // Logs of paths that are not valid need no nix-daemon, unless it decides who refers to whom.
        if !self.hidden.state().follows_referrers() {
            return Ok(false);
        }
        match self.path_infos.valid_path(hash, client).await? {
            Some(valid) => self.is_hidden(&valid, client).await,
            None => Ok(false),
        }
    }

    async fn finds_hidden(&self, valid: &ValidPath, client: ClientId) -> Result<bool, StoreError> {
        let hash = valid.path.hash_part();
        let known = || match self.hidden.state().verdict(hash) {
            Verdict::HiddenBy(_) => Some(true),
            Verdict::NotHidden => Some(false),
            Verdict::Unknown => None,
        };
        if let Some(is_hidden) = known() {
            return Ok(is_hidden);
        }
        let _walk = self.hidden.walks.acquire(client, 1).await;
        if let Some(is_hidden) = known() {
            return Ok(is_hidden);
        }
        let changes = self.hidden.state().changes;
        let mut seen = HashSet::from([hash]);
        let mut pending: VecDeque<StorePath> = VecDeque::new();
        let mut new = valid.info.reference_paths().collect::<Vec<_>>();
        loop {
            for reference in new.drain(..) {
                match self.known(reference.hash_part()) {
                    Known::Hidden(by) => {
                        self.hidden.state().remember(changes, [hash], Some(by));
                        return Ok(true);
                    }
                    Known::Clean => {}
                    Known::No if seen.contains(&reference.hash_part()) => {}
                    Known::No if seen.len() >= MAX_CLOSURE => return Ok(true),
                    Known::No => {
                        seen.insert(reference.hash_part());
                        pending.push_back(reference);
                    }
                }
            }
            let batch: Vec<_> = pending.drain(..pending.len().min(BATCH)).collect();
            if batch.is_empty() {
                break;
            }
            for found in self.path_infos.valid_paths(&batch, client).await {
                // One that is not valid was deleted just now, with all that refer to it.
                let found: Option<Arc<ValidPath>> = found?;
                new.extend(found.iter().flat_map(|found| found.info.reference_paths()));
            }
        }
        self.hidden.state().remember(changes, seen, None);
        Ok(false)
    }

    /// Returns what is known of a path that another refers to.
    fn known(&self, hash: HashPart) -> Known {
        let state = self.hidden.state();
        if state.hides_referrers_of(hash) {
            return Known::Hidden(hash);
        }
        match state.verdict(hash) {
            // Hidden alone: its own references still count.
            Verdict::HiddenBy(by) if by == hash => Known::No,
            Verdict::HiddenBy(by) => Known::Hidden(by),
            Verdict::NotHidden => Known::Clean,
            Verdict::Unknown => Known::No,
        }
    }
}

/// Knowledge of a path.
enum Known {
    /// Hidden by this path, which hides its referrers.
    Hidden(HashPart),
    /// Nothing in its closure hides its referrers.
    Clean,
    /// Nothing.
    No,
}
