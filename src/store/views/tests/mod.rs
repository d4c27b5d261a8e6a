//! Views with real directories and a scripted nix-daemon.

mod resolve;
mod scan;
