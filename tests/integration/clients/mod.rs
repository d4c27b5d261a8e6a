//! Commands of real clients of every release of Nix.

mod client_certificates;
mod commands;
mod credentials;
pub(crate) mod documented_commands;
mod faulty_proxy;
mod outages;
mod releases;
mod resume;
