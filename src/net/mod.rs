//! Accepts and serves client connections.
//!
//! Owns the sockets, TLS, the limits and deadlines of connections, and the drain at the end. Decides once for each request
//! which client it is for, by the address of the connection or by the header of a trusted proxy. Leaves the meaning of
//! requests to [`crate::http`], which is passed in as a function from requester and request to response.
//!
//! - [`accept`]: the loop over all listeners, and the drain;
//! - [`connection`]: one connection, from its handshake to its end;
//! - [`connection_limiter`]: how many connections are served, and which is next;
//! - [`deadlines`] and [`tracked_io`]: activity of a connection, as its socket reports it;
//! - [`forwarded`]: the client that a request is for;
//! - [`limits`]: limits on connections, and those of them that hyper enforces;
//! - [`listener`]: TCP and Unix sockets; [`socket_activation`]: those that the service manager passes on;
//! - [`read_progress`] and [`send_queue`]: how a client reads a response;
//! - [`send_budget`]: memory of response bodies on their way to clients;
//! - [`tls`]: certificate and key, handshakes, and the names in client certificates.

mod accept;
mod bind_error;
mod connection;
mod connection_limiter;
mod deadlines;
mod forwarded;
mod limits;
mod listener;
mod read_progress;
mod request_body;
mod send_budget;
mod send_queue;
mod socket_activation;
pub(crate) mod tls;
mod tracked_io;
mod unix_socket;

#[cfg(test)]
mod tests;

pub(crate) use accept::serve;
pub(crate) use bind_error::BindError;
pub(crate) use connection_limiter::ConnectionLimiter;
pub(crate) use limits::Limits;
pub(crate) use listener::Listener;
pub(crate) use socket_activation::{SocketActivationError, activated_listeners};
pub(crate) use unix_socket::{SocketFile, bind_unix};
