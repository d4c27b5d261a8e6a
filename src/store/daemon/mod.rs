//! Connections to nix-daemon: how they are made, pooled and bounded in time, and whether there is a nix-daemon at all.

pub(super) mod connections;
pub(super) mod deadline;
pub(super) mod dialer;
pub(super) mod empty_store;
pub(super) mod outage;
pub(super) mod pool;
pub(super) mod probe;
pub(super) mod socket_permission;
pub(super) mod timeout;
pub(super) mod transport;
