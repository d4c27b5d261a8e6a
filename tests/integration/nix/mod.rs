//! Nix releases in private prefixes, their daemons and clients, and the content of their stores.

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod daemon;
pub(crate) mod prefix;
pub(crate) mod release;
pub(crate) mod shared_server;
