//! Several hosts, each with its own store, nix-daemon and harmonia, that share a bucket of a real object store.

mod builds;
mod clients;
mod collections;
mod commands;
mod cost;
mod crashes;
mod faults;
mod garbage;
mod host;
mod keys;
mod load;
mod nars;
mod publishing;
mod reading;
mod shared_bucket;
mod soak;
