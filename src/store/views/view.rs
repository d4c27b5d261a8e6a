//! One view: its roots, the paths that it shows, and the progress of its scans.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::ViewConfig;
use crate::store::error::StoreError;
use crate::store::views::path_set::PathSet;
use crate::store::views::stamps::Stamps;
use crate::sync::{LogThrottle, Mutex};

/// A view.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: Arc<str>,
    pub(crate) roots: Vec<String>,
    /// Paths that it shows; `None` before the first scan.
    pub(crate) shown: ArcSwapOption<Shown>,
    pub(crate) progress: watch::Sender<Progress>,
    /// Inputs of the last scan; `None` if it was incomplete or is running.
    pub(crate) basis: Mutex<Option<Basis>>,
    /// Time before which no other scan begins.
    pub(crate) rests_until: Mutex<Option<Instant>>,
    pub(crate) warnings: LogThrottle<()>,
}

/// Paths that a view shows.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Start of the scan that found them.
    pub(crate) began: Instant,
    pub(crate) paths: Arc<PathSet>,
}

/// Inputs of a scan.
#[derive(Debug)]
pub(crate) struct Basis {
    pub(crate) stamps: Stamps,
    /// Number of corrections of the table of paths.
    pub(crate) corrections: u64,
}

/// Scans so far, one after the other.
#[derive(Debug, Default, Clone)]
pub(crate) struct Progress {
    /// Whether another scan will begin without being asked for again.
    pub(crate) is_due: bool,
    /// Number of scans begun.
    pub(crate) begun: u64,
    /// Number of scans ended.
    pub(crate) ended: u64,
    /// Reason why the last scan that ended may have missed paths.
    pub(crate) failure: Option<StoreError>,
}

impl Progress {
    /// Returns whether a scan is running.
    pub(crate) const fn is_running(&self) -> bool {
        self.begun != self.ended
    }
}

impl View {
    pub(crate) fn new(config: &ViewConfig) -> Self {
        Self {
            name: config.name.as_str().into(),
            roots: config.roots.clone(),
            shown: ArcSwapOption::empty(),
            progress: watch::Sender::default(),
            basis: Mutex::default(),
            rests_until: Mutex::default(),
            warnings: LogThrottle::default(),
        }
    }
}
