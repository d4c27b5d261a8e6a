//! harmonia: a Nix binary cache that serves what nix-daemon says.
//!
//! Dependencies point down only: [`commands`] → [`admin`], [`net`] and [`http`] → [`push`] and `bucket` → [`nar_cache`],
//! [`signing`] → [`store`] → `harmonia_protocol`. [`config`], [`access`], [`access_log`], [`audit_log`], [`log_lines`], [`metrics`], [`fairness`],
//! [`process`], [`client_tls`], [`clock_cache`], [`human_size`] and [`sync`] are leaves that all may use. `store` knows no HTTP, `http` no sockets,
//! `net` no routes.
//!
//! This is the library of one program, not an interface: public is what `main.rs`, the fuzz targets and `xtask` name.
#![allow(rustdoc::private_intra_doc_links, reason = "contributors read these pages with private items")]

pub mod access;
mod access_log;
mod admin;
mod audit_log;
#[cfg(feature = "bucket")]
pub mod bucket;
#[cfg(not(feature = "bucket"))]
#[path = "no_bucket.rs"]
mod bucket;
pub mod cli;
mod client_tls;
mod clock_cache;
mod commands;
mod config;
mod error;
mod fairness;
pub mod http;
mod human_size;
mod log_lines;
mod metrics;
pub mod nar_cache;
mod net;
mod output;
mod process;
pub mod push;
mod signing;
mod store;
mod sync;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;
use process::{core_dump, log, malloc, rlimit};

/// Runs the program with the arguments of the process, and returns its exit status.
#[must_use]
pub fn main() -> ExitCode {
    malloc::tune();
    rlimit::raise_nofile();
    let cli = Cli::parse();
    let recent = log::start();
    core_dump::disable();
    match commands::run(cli, recent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.each().into_iter().for_each(log::fatal);
            ExitCode::from(error.exit_code())
        }
    }
}
