//! Listening, connections and their ends.
//!
//! Owns the sockets, TLS, the number of connections, every deadline of a connection and the drain
//! at the end. Tells clients apart, by their addresses or by what a proxy forwards. What a request means is [`crate::http`]'s: it is handed in as a
//! function from reader and request to response.
//!
//! - [`listener`]: bind TCP or a Unix socket, accept;
//! - [`inherited`](mod@inherited): listeners that a service manager passed on;
//! - [`tls`]: certificate and key from PEM files; `key_kind` says which key is none for it;
//! - [`limits`]: the bounds, and what of them hyper enforces;
//! - `places`: how many connections are served, and which are next;
//! - `forwarded`: which client a request is for;
//! - `activity` and `watched`: what a connection is doing, seen at its socket;
//! - `reading` and `send_queue`: how a client reads a response;
//! - `outgoing`: the memory of what is on its way to clients;
//! - `connection`: one connection from handshake to end;
//! - `accept`: the loop over all of them, and the drain.

mod accept;
mod activity;
pub mod certificate;
mod connection;
mod forwarded;
pub mod inherited;
mod key_kind;
pub mod limits;
pub mod listener;
mod outgoing;
mod places;
mod reading;
mod send_queue;
pub mod tls;
mod watched;

#[cfg(test)]
mod tests;

pub use accept::serve;
pub use inherited::{InheritError, inherited};
pub use limits::Limits;
pub use listener::{BindError, Listener, SocketFile, bind_unix};
pub use places::Places;

/// The error of a body, as hyper takes it.
type BoxError = Box<dyn std::error::Error + Send + Sync>;
