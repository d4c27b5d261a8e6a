//! Integration tests: one binary with a folder per subject, and `support` with their fixtures.
//!
//! They run the program with the nix-daemons and clients of real Nix releases, which `tests/nix-releases get` downloads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod access;
mod clients;
mod daemons;
mod endpoints;
mod faults;
mod fleet;
mod nar_cache;
mod nix;
mod object_stores;
mod operations;
mod project;
mod proxies;
mod publishing;
mod push;
mod soak;
#[allow(dead_code, reason = "the scripted tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
#[path = "../fuzz/targets/mod.rs"]
mod targets;
