//! Corpus of the fuzzer, `fuzz/corpus/`, run through the properties of `fuzz/targets/`.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use crate::targets::TARGETS;

#[test]
fn the_fuzz_properties_hold_for_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut failed = Vec::new();
    for (target, property) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpus.join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_unstable();
        assert!(!files.is_empty(), "{target} has no corpus");
        // And one that is too short for any parameter.
        let inputs = files.iter().map(|file| (file.as_path(), fs::read(file).unwrap()));
        for (file, input) in inputs.chain([(Path::new("an empty input"), Vec::new())]) {
            if catch_unwind(|| property(&input)).is_err() {
                failed.push(format!("{target}: {}", file.display()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let known = fs::read_dir(&corpus).unwrap().count();
    assert_eq!(known, TARGETS.len(), "a corpus without a target");
}
