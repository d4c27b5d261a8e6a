//! Real garbage collections of pushed paths.

use std::fs;

use super::source::Source;
use super::{Cache, put};
use crate::nix::release::Release;

#[test]
fn a_pushed_path_survives_gc_as_long_as_it_is_kept() {
    for release in Release::ALL {
        let cache = Cache::start(release);
        let source = Source::new(Release::Nix2_34, '3', 1 << 10);
        for file in source.files(&source.leaf) {
            assert_eq!(put(cache.harmonia.http(), &file).status, 200);
        }
        // Its connections hold temporary roots.
        let Cache { harmonia, daemon, state, .. } = cache;
        drop(harmonia);
        let is_valid = || {
            let _ = daemon.run(&["nix-store", "--gc"]).stdout();
            daemon.run(&["nix-store", "--check-validity", &source.leaf]).succeeded()
        };
        assert!(is_valid(), "{release}: a path that was pushed was collected");
        fs::remove_dir_all(state.join("pushed")).unwrap();
        assert!(!is_valid(), "{release}: a path that is kept no longer was not collected");
    }
}
