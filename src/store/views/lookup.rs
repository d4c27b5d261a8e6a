//! Lookups of paths in views.

use std::io;
use std::sync::Arc;

use harmonia_protocol::HashPart;
use tokio::time::Instant;

use crate::config::ViewConfig;
use crate::store::error::StoreError;
use crate::store::state::Store;
use crate::store::views::registry::Wanted;
use crate::store::views::resolve::resolve;

impl Store {
    /// Returns whether one of these views shows the path with this hash part, without a query of nix-daemon about it. False
    /// only if scans of the views that began after the call did not find it; the error is that of such a scan.
    pub(crate) async fn is_in_view(&self, hash: HashPart, views: &[Arc<str>]) -> Result<bool, StoreError> {
        self.views.shows(Wanted::Path(hash), views).await
    }

    /// Returns whether one of these views shows the path with this hash part as a derivation, or a path that it built.
    pub(crate) async fn is_log_in_view(&self, hash: HashPart, views: &[Arc<str>]) -> Result<bool, StoreError> {
        self.views.shows(Wanted::Log(hash), views).await
    }

    /// Returns whether one of these views is known to show the path with this hash part, by a scan that was recent when the
    /// request `arrived`. A path that has just been added is known after [`Self::rescan_views`].
    pub(crate) fn is_known_in_view(&self, hash: HashPart, views: &[Arc<str>], arrived: Instant) -> bool {
        self.views.shows_now(Wanted::Path(hash), views, arrived)
    }

    /// Waits for scans of these views that begin now.
    pub(crate) async fn rescan_views(&self, views: &[Arc<str>]) -> Result<(), StoreError> {
        self.views.rescan(None, views, Instant::now()).await.map(drop)
    }

    /// Replaces all views. Those whose roots are unchanged keep their paths.
    pub(crate) fn replace_views(&self, views: &[ViewConfig]) {
        self.views.replace(views);
        self.views.collect_garbage();
        self.views.scan_all();
    }

    /// Adds views, or replaces those whose roots have changed.
    pub(crate) fn add_views(&self, views: &[ViewConfig]) {
        self.views.add(views);
        self.views.scan_all();
    }

    /// Scans all views in the background, so that the first requests need not wait.
    pub fn scan_views(&self) {
        self.views.scan_all();
    }

    /// Returns the number of roots of a view now, and the first reason why others may be missing. Blocks on the disk.
    pub(crate) fn count_roots(&self, view: &ViewConfig) -> (usize, Option<StoreError>) {
        let roots = resolve(&view.roots, &self.directory, &self.real_directory);
        let denied = roots.denied.map(|place| StoreError::file(&place, &io::ErrorKind::PermissionDenied.into()));
        (roots.paths.len(), denied.or(roots.failure))
    }
}
