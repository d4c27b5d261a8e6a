//! Closures of what is to be published: without what the bucket has, references before referrers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use harmonia_protocol::{HashPart, StorePath};

use super::gather::Origin;
use super::obstacle::{Interruption, Obstacle, of_store};
use crate::fairness::ClientId;
use crate::store::ValidPath;

/// Upper bound of the paths of one traversal. Each takes some hundred bytes.
const MAX_PATHS: usize = 200_000;
/// Paths that are looked up at a time: as many as one pipeline of queries takes.
const LOOKUPS: usize = 64;

/// Paths to publish.
#[derive(Default)]
pub(super) struct Closures {
    /// Paths, references before referrers.
    pub(super) paths: Vec<Arc<ValidPath>>,
    /// Paths that cannot be published.
    pub(super) obstacles: BTreeMap<HashPart, Obstacle>,
}

impl Origin {
    /// Finds these paths and all that they refer to, but for what `is_published` says is in the bucket with its closure.
    pub(super) async fn closures(
        &self,
        roots: &[HashPart],
        is_published: impl Fn(&HashPart) -> bool,
    ) -> Result<Closures, Interruption> {
        let mut closures = Closures::default();
        let mut seen: HashSet<HashPart> = HashSet::new();
        let mut found: HashMap<HashPart, Arc<ValidPath>> = HashMap::new();
        let mut next: Vec<StorePath> = Vec::new();
        let enter = |valid: Arc<ValidPath>, found: &mut HashMap<_, _>, seen: &mut HashSet<_>, next: &mut Vec<_>| {
            let is_new = |it: &StorePath| !is_published(&it.hash_part()) && seen.insert(it.hash_part());
            next.extend(valid.info.reference_paths().filter(is_new));
            found.insert(valid.path.hash_part(), valid);
        };
        for root in roots {
            if is_published(root) || !seen.insert(*root) {
                continue;
            }
            match self.find(*root).await? {
                Ok(valid) => enter(valid, &mut found, &mut seen, &mut next),
                Err(obstacle) => drop(closures.obstacles.insert(*root, obstacle)),
            }
        }
        while !next.is_empty() {
            if seen.len() > MAX_PATHS {
                closures.obstacles.extend(next.drain(..).map(|it| (it.hash_part(), Obstacle::TooManyPaths(MAX_PATHS))));
                break;
            }
            let batch = next.split_off(next.len().saturating_sub(LOOKUPS));
            let results = self.store.valid_paths(&batch, ClientId::Server).await;
            for (path, result) in batch.into_iter().zip(results) {
                match result {
                    Ok(Some(valid)) => enter(valid, &mut found, &mut seen, &mut next),
                    Ok(None) => drop(closures.obstacles.insert(path.hash_part(), Obstacle::NotValid)),
                    Err(error) => drop(closures.obstacles.insert(path.hash_part(), of_store(error)?)),
                }
            }
        }
        closures.paths = references_first(found);
        Ok(closures)
    }
}

/// Orders paths so that each comes after those of them that it refers to.
fn references_first(mut found: HashMap<HashPart, Arc<ValidPath>>) -> Vec<Arc<ValidPath>> {
    let mut ordered = Vec::with_capacity(found.len());
    let mut missing: HashMap<HashPart, usize> = HashMap::with_capacity(found.len());
    let mut referrers: HashMap<HashPart, Vec<HashPart>> = HashMap::new();
    for (path, valid) in &found {
        let mut count = 0;
        for reference in valid.info.reference_paths().map(|it| it.hash_part()) {
            if reference != *path && found.contains_key(&reference) {
                referrers.entry(reference).or_default().push(*path);
                count += 1;
            }
        }
        missing.insert(*path, count);
    }
    let mut ready: Vec<HashPart> = missing.iter().filter(|(_, count)| **count == 0).map(|(path, _)| *path).collect();
    // The same order each time.
    ready.sort_unstable();
    while let Some(path) = ready.pop() {
        ordered.extend(found.remove(&path));
        for referrer in referrers.remove(&path).unwrap_or_default() {
            if let Some(count) = missing.get_mut(&referrer) {
                *count -= 1;
                if *count == 0 {
                    ready.push(referrer);
                }
            }
        }
    }
    // Nix makes no circles; what would be in one is withheld later.
    ordered.extend(found.into_values());
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::narinfo::tests::{info, path};

    fn valid(number: u64, references: &[u64]) -> (HashPart, Arc<ValidPath>) {
        (path(number).hash_part(), Arc::new(ValidPath::new(path(number), &info(references))))
    }

    #[test]
    fn references_come_before_referrers_and_nothing_is_lost() {
        let found =
            HashMap::from([valid(1, &[1, 2, 3]), valid(2, &[3, 9]), valid(3, &[]), valid(4, &[5]), valid(5, &[4])]);
        let order: Vec<_> = references_first(found).iter().map(|it| it.path.clone()).collect();
        let place = |number| order.iter().position(|it| *it == path(number)).unwrap();
        assert!(place(3) < place(2) && place(2) < place(1));
        assert_eq!(order.len(), 5);
    }
}
