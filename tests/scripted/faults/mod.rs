//! Hostile clients, broken nix-daemons, damaged stores and overload.

mod bad_requests;
mod broken_daemon;
mod broken_nars;
mod connection_limits;
mod fairness;
mod hostile_http;
mod hostile_http2;
mod quarantine;
mod slow_readers;
