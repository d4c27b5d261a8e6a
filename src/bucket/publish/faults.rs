//! Paths that are not published because something is wrong, for people to see.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;

/// Upper bound of the paths that are remembered.
const MAX_FAULTS: usize = 1_000;
/// Time for which one is remembered that is not tried again by itself.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// Faults by path.
#[derive(Debug, Default)]
pub(super) struct Faults(BTreeMap<HashPart, (Instant, String)>);

impl Faults {
    /// Notes what is wrong with a path.
    pub(super) fn note(&mut self, path: HashPart, reason: &str) {
        if self.0.len() < MAX_FAULTS || self.0.contains_key(&path) {
            self.0.insert(path, (Instant::now(), reason.to_owned()));
        }
    }

    /// Forgets a path that is published.
    pub(super) fn resolved(&mut self, path: &HashPart) {
        self.0.remove(path);
    }

    /// Returns the paths with the reasons. Forgets those that are not queued and were noted long ago.
    pub(super) fn list(&mut self, is_queued: impl Fn(&HashPart) -> bool) -> Vec<(HashPart, String)> {
        self.0.retain(|path, (noted, _)| noted.elapsed() <= REMEMBERED || is_queued(path));
        self.0.iter().map(|(path, (_, reason))| (*path, reason.clone())).collect()
    }
}
