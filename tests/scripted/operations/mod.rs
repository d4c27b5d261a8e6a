//! Operation of the program: starts, configuration, logs, the admin socket and the service manager.

mod access_log;
mod admin_socket;
pub(crate) mod hidden;
mod hidden_elsewhere;
mod log;
pub(crate) mod pins;
mod secrets;
mod socket_activation;
mod start;
mod systemd_notify;
mod users;
