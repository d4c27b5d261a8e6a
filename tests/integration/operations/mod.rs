//! Operation of the program: starts, configuration, logs, subcommands and the service manager.

mod check;
mod mistakes;
mod pins;
mod prometheus;
mod quickstart;
mod reload;
mod restart;
mod status_command;
mod status_of_path;
pub(crate) mod unusual_environments;
