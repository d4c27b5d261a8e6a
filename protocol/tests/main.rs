//! Tests of the client against recorded and scripted daemons.
//!
//! No test here waits for a clock. nix-daemon is a [`script::Script`] that the client reads from and writes to, or the
//! other end of an in-memory pipe.

// Tests may unwrap; clippy knows only those functions for tests that are marked as such.
#![allow(clippy::unwrap_used)]

mod errors;
mod examples;
mod faults;
mod nar_stream;
mod operations;
mod pipeline;
mod prefixes;
mod realisations;
mod replay;
mod script;
mod transcript;
mod uploads;
