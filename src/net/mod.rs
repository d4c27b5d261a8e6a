//! Listening, connections and their ends.
//!
//! Owns the sockets, TLS, the number of connections, every deadline of a connection and the drain
//! at the end. Tells clients apart by their addresses. What a request means is [`crate::http`]'s: it is handed in as a
//! function from client and request to response.
//!
//! - [`listener`]: bind TCP or a Unix socket, accept;
//! - [`inherited`](mod@inherited): listeners that a service manager passed on;
//! - [`tls`]: certificate and key from PEM files;
//! - [`limits`]: the bounds, and what of them hyper enforces;
//! - `guests`: how many connections each client has;
//! - `activity` and `watched`: what a connection is doing, seen at its socket and at its bodies;
//! - `outgoing`: the memory of what is on its way to clients;
//! - `connection`: one connection from handshake to end;
//! - `accept`: the loop over all of them, and the drain.

mod accept;
mod activity;
mod connection;
mod guests;
pub mod inherited;
pub mod limits;
pub mod listener;
mod outgoing;
pub mod tls;
mod watched;

#[cfg(test)]
mod tests;

pub use accept::serve;
pub use inherited::{InheritError, inherited};
pub use limits::Limits;
pub use listener::{BindError, Listener};

/// The error of a body, as hyper takes it.
type BoxError = Box<dyn std::error::Error + Send + Sync>;
