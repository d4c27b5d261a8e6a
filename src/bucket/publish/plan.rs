//! Plan of publishing: which objects are missing, and the order in which they are put.
//!
//! All NARs come first, the biggest before the others; then narinfos in rounds, references before referrers; then the segment of
//! the index. The puts of one round may be in parallel, the next round waits for all of them. So wherever a host stops, the
//! bucket has NARs without a narinfo at worst, never a narinfo whose NAR or reference is missing. A path is withheld
//! if a reference is neither in the bucket nor published with it, and so is what refers to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use harmonia_protocol::HashPart;

use crate::bucket::file_hash::NarFile;

/// A path to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Hash part of the path.
    pub(crate) path: HashPart,
    /// File of its NAR.
    pub(crate) file: NarFile,
    /// Size of that file, in bytes.
    pub(crate) file_size: u64,
    /// Hash parts of its references.
    pub(crate) references: Vec<HashPart>,
}

/// Objects that the bucket is known to have, and may keep for as long as the plan is carried out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Paths with a narinfo.
    pub(crate) narinfos: HashSet<HashPart>,
    /// Files of NARs.
    pub(crate) nars: HashSet<NarFile>,
    /// Paths in the index.
    pub(crate) indexed: HashSet<HashPart>,
}

/// A path that is not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withheld {
    /// The path.
    pub(crate) path: HashPart,
    /// A reference that is missing or withheld itself; `None` if the file of the path is unavailable.
    pub(crate) reference: Option<HashPart>,
}

/// Objects to put, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Files of NARs with their sizes, the biggest first, each once.
    pub(crate) nars: Vec<(NarFile, u64)>,
    /// Rounds of narinfos. The references of each are in the bucket or in an earlier round.
    pub(crate) rounds: Vec<Vec<HashPart>>,
    /// Paths that the segment after all of that adds to the index, in ascending order.
    pub(crate) indexed: Vec<HashPart>,
    /// Paths that are not published, in ascending order.
    pub(crate) withheld: Vec<Withheld>,
}

impl Plan {
    /// Plans how these paths are published. Those whose files are `unavailable` are withheld, with what refers to them, unless
    /// their narinfo is in the bucket.
    pub(crate) fn new(items: &[Item], known: &Known, unavailable: &HashSet<NarFile>) -> Self {
        let items: BTreeMap<HashPart, &Item> = items.iter().map(|item| (item.path, item)).collect();
        let is_there = |path: &HashPart| known.narinfos.contains(path);
        let (mut waiting, mut ready) = (HashMap::new(), BTreeSet::new());
        let mut referrers: HashMap<HashPart, Vec<HashPart>> = HashMap::new();
        for (path, item) in items.iter().filter(|(path, item)| !is_there(path) && !unavailable.contains(&item.file)) {
            let missing: BTreeSet<_> =
                item.references.iter().filter(|reference| *reference != path && !is_there(reference)).collect();
            for reference in &missing {
                referrers.entry(**reference).or_default().push(*path);
            }
            if missing.is_empty() {
                ready.insert(*path);
            } else {
                waiting.insert(*path, missing.len());
            }
        }
        let mut plan = Self::default();
        let mut placed = BTreeSet::new();
        while !ready.is_empty() {
            let mut next = BTreeSet::new();
            for path in ready.iter().flat_map(|path| referrers.get(path).into_iter().flatten()) {
                if let Some(count) = waiting.get_mut(path) {
                    *count -= 1;
                    if *count == 0 {
                        waiting.remove(path);
                        next.insert(*path);
                    }
                }
            }
            placed.extend(ready.iter().copied());
            plan.rounds.push(ready.into_iter().collect());
            ready = next;
        }
        let has = |path: &HashPart| is_there(path) || placed.contains(path);
        for (path, item) in items.iter().filter(|(path, _)| !has(path)) {
            let missing = item.references.iter().find(|reference| *reference != path && !has(reference));
            plan.withheld.push(Withheld { path: *path, reference: missing.copied() });
        }
        plan.indexed = items.keys().filter(|path| has(path) && !known.indexed.contains(path)).copied().collect();
        let files = placed.iter().filter_map(|path| items.get(path)).map(|item| (item.file, item.file_size));
        let missing: BTreeMap<_, _> = files.filter(|(file, _)| !known.nars.contains(file)).collect();
        plan.nars = missing.into_iter().collect();
        plan.nars.sort_by_key(|(file, size)| (std::cmp::Reverse(*size), *file));
        plan
    }

    /// Returns the number of puts, without that of the segment.
    #[cfg(test)]
    fn puts(&self) -> usize {
        self.nars.len() + self.rounds.iter().map(Vec::len).sum::<usize>()
    }
}

#[cfg(test)]
pub(in crate::bucket) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::file_hash::FileHash;
    use crate::bucket::narinfo::tests::path;

    pub(in crate::bucket) fn part(number: u64) -> HashPart {
        path(number).hash_part()
    }

    pub(in crate::bucket) fn file(number: u64) -> NarFile {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        NarFile::zstd(FileHash::from_digest(digest))
    }

    fn item(number: u64, size: u64, references: &[u64]) -> Item {
        let references = references.iter().map(|it| part(*it)).collect();
        Item { path: part(number), file: file(number), file_size: size, references }
    }

    fn plan(items: &[Item], known: &Known) -> Plan {
        Plan::new(items, known, &HashSet::new())
    }

    #[test]
    fn nars_go_by_size_and_narinfos_by_reference() {
        let items = [item(1, 10, &[2, 3, 1]), item(2, 30, &[4]), item(3, 20, &[]), item(4, 20, &[])];
        let plan = plan(&items, &Known::default());
        let expected_first = file(2);
        assert_eq!(plan.nars[0], (expected_first, 30));
        assert_eq!(plan.nars.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [30, 20, 20, 10]);
        let rounds: Vec<BTreeSet<_>> = plan.rounds.iter().map(|round| round.iter().copied().collect()).collect();
        assert_eq!(rounds, [[part(3), part(4)].into(), [part(2)].into(), [part(1)].into()]);
        assert_eq!((plan.indexed.len(), plan.withheld.len(), plan.puts()), (4, 0, 8));
    }

    #[test]
    fn what_is_there_is_not_put_again_but_indexed() {
        let known =
            Known { narinfos: [part(1), part(9)].into(), nars: [file(1), file(2)].into(), indexed: [part(9)].into() };
        let plan = plan(&[item(1, 10, &[]), item(2, 10, &[1, 9])], &known);
        assert_eq!((plan.nars.len(), plan.rounds.clone()), (0, vec![vec![part(2)]]));
        assert_eq!(plan.indexed.into_iter().collect::<BTreeSet<_>>(), [part(1), part(2)].into());
    }

    #[test]
    fn nothing_above_a_gap_is_published() {
        let items = [item(1, 1, &[2]), item(2, 1, &[3]), item(4, 1, &[]), item(5, 1, &[6]), item(6, 1, &[5])];
        let plan = plan(&items, &Known::default());
        assert_eq!((plan.rounds, plan.nars.len()), (vec![vec![part(4)]], 1));
        let withheld: BTreeMap<_, _> = plan.withheld.iter().map(|it| (it.path, it.reference)).collect();
        let expected = [(1, 2), (2, 3), (5, 6), (6, 5)].map(|(path, gap)| (part(path), Some(part(gap))));
        assert_eq!(withheld, expected.into(), "a circle is a gap too");
        let without = Plan::new(&[item(1, 1, &[2]), item(2, 1, &[])], &Known::default(), &[file(2)].into());
        assert_eq!((without.puts(), without.withheld.len()), (0, 2));
    }

    #[test]
    fn paths_with_the_same_contents_share_a_file() {
        let twin = Item { file: file(1), ..item(2, 10, &[]) };
        assert_eq!(plan(&[item(1, 10, &[]), twin], &Known::default()).nars, [(file(1), 10)]);
    }

    /// Batches of paths that refer to earlier ones: some of the bucket, some of the batch, some of neither.
    fn batches() -> impl Strategy<Value = Vec<Item>> {
        vec((0u64..100, vec(0u64..24, 0..4)), 0..24).prop_map(|paths| {
            let items = paths.into_iter().enumerate();
            items.map(|(number, (size, references))| item(number as u64, size, &references)).collect()
        })
    }

    /// A bucket, with what each narinfo needs.
    #[derive(Default)]
    struct Bucket {
        known: Known,
        needs: HashMap<HashPart, Item>,
    }

    impl Bucket {
        fn put(&mut self, item: &Item) {
            self.known.narinfos.insert(item.path);
            self.needs.insert(item.path, item.clone());
            assert!(self.known.nars.contains(&item.file), "a narinfo without its NAR");
            for reference in item.references.iter().filter(|reference| **reference != item.path) {
                assert!(self.known.narinfos.contains(reference), "a narinfo without a reference");
            }
        }

        /// Carries out puts of a plan until there were so many, in each round in the order of `shuffle`.
        fn publish(&mut self, items: &[Item], plan: &Plan, mut puts: usize, shuffle: usize) -> bool {
            let by_path: HashMap<_, _> = items.iter().map(|item| (item.path, item)).collect();
            let mut next = || {
                let is_alive = puts > 0;
                puts = puts.saturating_sub(1);
                is_alive
            };
            for at in 0..plan.nars.len() {
                if !next() {
                    return false;
                }
                self.known.nars.insert(plan.nars[(at + shuffle) % plan.nars.len()].0);
            }
            for round in &plan.rounds {
                for at in 0..round.len() {
                    if !next() {
                        return false;
                    }
                    self.put(by_path[&round[(at + shuffle) % round.len()]]);
                }
            }
            if next() {
                self.known.indexed.extend(&plan.indexed);
                return true;
            }
            false
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_crash_anywhere_leaves_no_narinfo_without_its_nar_or_a_reference(
            items in batches(),
            crashes in vec((0usize..40, 0usize..8), 0..4),
            unavailable in vec(0u64..24, 0..3),
        ) {
            // `put` fails if anything is missing.
            let mut bucket = Bucket::default();
            let unavailable = unavailable.into_iter().map(file).collect();
            for (puts, shuffle) in crashes {
                let plan = Plan::new(&items, &bucket.known, &unavailable);
                bucket.publish(&items, &plan, puts, shuffle);
            }
            let plan = Plan::new(&items, &bucket.known, &HashSet::new());
            prop_assert!(bucket.publish(&items, &plan, usize::MAX, 0));
            let withheld: HashSet<_> = plan.withheld.iter().map(|it| it.path).collect();
            for item in &items {
                prop_assert_eq!(bucket.known.narinfos.contains(&item.path), !withheld.contains(&item.path));
                prop_assert_eq!(bucket.known.indexed.contains(&item.path), !withheld.contains(&item.path));
            }
            let again = Plan::new(&items, &bucket.known, &HashSet::new());
            prop_assert_eq!((again.puts(), again.indexed.len()), (0, 0), "publishing again puts nothing");
        }

        #[test]
        fn two_hosts_that_publish_the_same_at_once_are_one(items in batches(), puts in 0usize..40) {
            let mut bucket = Bucket::default();
            let (first, second) = (plan(&items, &bucket.known), plan(&items, &bucket.known));
            bucket.publish(&items, &first, puts, 1);
            prop_assert!(bucket.publish(&items, &second, usize::MAX, 2));
            prop_assert!(bucket.publish(&items, &first, usize::MAX, 0));
            prop_assert_eq!(plan(&items, &bucket.known).puts(), 0);
        }
    }
}
