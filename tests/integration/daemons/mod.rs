//! Real daemons of every release of Nix, their stores and their outages.

mod chroot_store;
mod garbage_collector;
mod outages;
mod releases;
mod stdio_command;
mod store_changes;
