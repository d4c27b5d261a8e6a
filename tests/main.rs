//! The integration tests: one binary, a module per endpoint or hazard, and `support` with what they stand on.
//!
//! They run the real program before real daemons and real clients; `tests/nix-releases get` fetches those.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod architecture;
mod ask_ahead;
mod bad_input;
mod build_log;
mod cache_info;
mod check;
mod chroot_store;
mod client_commands;
mod client_outages;
mod client_releases;
mod compression;
mod corpora;
mod daemon_command;
mod daemon_faults;
mod daemon_outages;
mod daemon_releases;
mod debuginfo;
mod dependencies;
mod fair_share;
mod garbage_collector;
mod held_back;
mod hostile_http;
mod hostile_http2;
mod http2;
mod landing_page;
mod listing;
mod load;
mod log;
mod metrics;
mod nar;
mod nar_cache;
mod nar_cache_faults;
mod nar_cache_frozen;
mod nar_faults;
mod nar_source;
mod narinfo;
mod narinfo_cache;
mod nginx;
mod notify;
mod ranges;
mod realisations;
mod reload;
mod rendered;
mod restart;
mod resume;
mod secrets;
mod serve_by_nar_hash;
mod serve_path;
mod signatures;
mod soak;
mod socket_activation;
mod start;
mod start_anywhere;
mod status;
mod store_changes;
mod support;
#[path = "fuzz/targets/mod.rs"]
mod targets;
mod transport;
mod trust;
mod varnish;
mod verify;
