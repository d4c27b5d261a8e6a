//! Feeds libFuzzer's inputs to the target that the environment variable `FUZZ_TARGET` names; see `run`.

#![no_main]

use std::sync::LazyLock;

mod targets;

static TARGET: LazyLock<targets::Property> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = targets::TARGETS.into_iter().find(|(target, _)| *target == name);
    target.unwrap_or_else(|| panic!("FUZZ_TARGET={name} names no target")).1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET(input));
