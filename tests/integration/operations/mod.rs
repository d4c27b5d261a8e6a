//! The program as an operator sees it: starts, configuration, logs, subcommands and the service manager.

mod access_log;
mod admin_socket;
mod check;
mod log;
mod mistakes;
mod prometheus;
mod quickstart;
mod reload;
mod restart;
mod secrets;
mod socket_activation;
mod start;
mod status_command;
mod status_of_path;
mod systemd_notify;
pub(crate) mod unusual_environments;
