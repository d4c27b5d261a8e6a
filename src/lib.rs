//! Nix binary cache server.

pub mod config;
pub mod http;
pub mod net;
