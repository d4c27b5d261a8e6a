//! harmonia: a Nix binary cache that learns everything from nix-daemon.
//!
//! Arrows point down only: `main` → [`net`] → [`http`] → [`nar_cache`], [`signing`] → [`store`] → `harmonia_protocol`; [`config`],
//! [`access_log`], [`metrics`], [`bounded`], [`client`], [`human_size`], [`log_throttle`], [`fairness`] and [`supervisor`] are leaves that all may use. `store` knows nothing of HTTP, `net` nothing of routes.

pub mod access_log;
pub mod admin;
pub mod bounded;
pub mod cache;
pub mod check;
pub mod cli;
pub mod client;
pub mod config;
pub mod core_dump;
pub mod descriptors;
pub mod error;
pub mod fairness;
pub mod http;
pub mod human_size;
pub mod log;
pub mod log_throttle;
pub mod memory;
pub mod metrics;
pub mod nar_cache;
pub mod net;
pub mod notify;
pub mod output;
pub mod quickstart;
pub mod reload;
pub mod serve;
pub mod signing;
pub mod status;
pub mod stop;
pub mod store;
pub mod supervisor;
pub mod unit;
