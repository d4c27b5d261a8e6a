//! harmonia: a Nix binary cache that serves what nix-daemon says.
//!
//! Dependencies point down only: [`commands`] → [`admin`], [`net`] and [`http`] → [`nar_cache`], [`signing`] → [`store`] →
//! `harmonia_protocol`. [`config`], [`access_log`], [`metrics`], [`fairness`], [`process`], [`clock_cache`], [`human_size`] and
//! [`sync`] are leaves that all may use. `store` knows no HTTP, `http` no sockets, `net` no routes.

pub mod access_log;
pub mod admin;
pub mod cli;
pub mod clock_cache;
pub mod commands;
pub mod config;
pub mod error;
pub mod fairness;
pub mod http;
pub mod human_size;
pub mod metrics;
pub mod nar_cache;
pub mod net;
pub mod output;
pub mod process;
pub mod signing;
pub mod store;
pub mod sync;
