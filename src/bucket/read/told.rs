//! Paths that clients were told of: by their narinfos, and as references.
//!
//! A client asks for the references of a narinfo next. Listings lag, and another host may collect garbage meanwhile: it must
//! not get a 404 for one of them, which it would remember for an hour.

use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;

use crate::clock_cache::ClockCache;
use crate::sync::Mutex;

/// Time in which a client that was told of a path asks for it.
pub(super) const TOLD: Duration = Duration::from_secs(600);
/// Upper bound of the memory, in bytes: about 50,000 paths.
const MAX_BYTES: usize = 6 << 20;

/// Paths that clients were told of lately.
#[derive(Debug)]
pub(super) struct Told {
    paths: Mutex<ClockCache<HashPart, Instant>>,
}

impl Told {
    pub(super) fn new() -> Self {
        Self { paths: Mutex::new(ClockCache::new(MAX_BYTES)) }
    }

    /// Adds paths that a client is told of.
    pub(super) fn insert(&self, paths: impl IntoIterator<Item = HashPart>) {
        self.insert_at(paths, Instant::now());
    }

    fn insert_at(&self, paths: impl IntoIterator<Item = HashPart>, now: Instant) {
        let mut told = self.paths.lock();
        for path in paths {
            match told.find(&path) {
                Some(before) => *before = now,
                None => told.insert(path, now, 0),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn clear(&self) {
        *self.paths.lock() = ClockCache::new(MAX_BYTES);
    }

    /// Returns whether a client was told of this path.
    pub(super) fn contains(&self, path: &HashPart) -> bool {
        self.contains_at(path, Instant::now())
    }

    fn contains_at(&self, path: &HashPart, now: Instant) -> bool {
        self.paths.lock().peek(path).is_some_and(|told| now.saturating_duration_since(*told) <= TOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::narinfo::tests::path;

    #[test]
    fn a_path_was_told_of_for_a_while_after_the_last_time() {
        let (told, start) = (Told::new(), Instant::now());
        let [one, two] = [1, 2].map(|number| path(number).hash_part());
        told.insert_at([one], start);
        assert!(told.contains_at(&one, start + TOLD) && !told.contains_at(&two, start));
        told.insert_at([one, two], start + TOLD);
        assert!(told.contains_at(&one, start + TOLD * 2) && !told.contains_at(&one, start + TOLD * 3));
    }

    #[test]
    fn its_memory_has_a_limit() {
        let told = Told::new();
        told.insert((0..200_000).map(|number| path(number).hash_part()));
        let paths = told.paths.lock();
        assert!(paths.bytes() <= MAX_BYTES && paths.len() > 40_000, "{}", paths.len());
    }
}
