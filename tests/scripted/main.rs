//! Scripted tests: the program with a nix-daemon that plays a script, and HTTP clients of our own.
//!
//! They need neither Nix nor root nor a download, and take less than a minute. Tests that need a real nix-daemon, client or
//! proxy are in `tests/integration/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod access;
mod bucket;
mod endpoints;
mod faults;
mod nar_cache;
mod operations;
mod push;
mod sample;
#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
