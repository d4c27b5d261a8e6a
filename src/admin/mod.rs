//! The local admin socket: what a running server tells its own subcommands, and what it does for them.
//!
//! HTTP/1.1 with JSON over a Unix socket of its own, so that `curl --unix-socket PATH http://harmonia/status` works too.
//! Nothing of it is on the listeners that clients reach. Only root and the user of this process may ask: the socket has
//! mode 0600, and the kernel is asked who has connected besides. Owns the socket, its bounds and which requests there are;
//! leaves what they mean to [`crate::http`], [`crate::nar_cache`] and [`crate::store`]. Without a socket there is no task
//! and nothing in memory.
//!
//! - `socket`: binds it and accepts connections, each for one request;
//! - `requests`: from method and path to an answer;
//! - `nar_cache`: requests about compressed NARs;
//! - [`report`]: what is answered about the server, collected by `status`;
//! - [`client`]: how a subcommand finds a server and asks it.
//!
//! A further request takes three steps:
//!
//! 1. a type for what is answered (and for what is sent, if anything), which derives `Serialize` and `Deserialize`, in a
//!    file of this module: server and subcommand share it;
//! 2. an arm in [`requests`](self): `(&Method::POST, "/cache/remove") => json(&remove(self, parse(body)?).await?)`;
//! 3. in the subcommand `Client::find(config.admin_socket.as_deref()).await?.post("/cache/remove", &paths).await?`.
//!
//! An answer has to come within [`MAX_TIME`]. What takes longer is begun by one request and looked at by others.

pub mod client;
mod nar_cache;
pub mod report;
mod requests;
mod socket;
mod status;

pub use client::{Client, ClientError};
pub use nar_cache::{Made, Member, Paths, Taken};
pub use requests::{CacheDirectory, Server};
pub use socket::{AdminSocket, open};

use std::time::Duration;

/// Bytes of a request's body that are taken: ten thousand store paths.
const MAX_REQUEST: usize = 1 << 20;
/// A connection's time, from its start to the last byte of its answer.
pub const MAX_TIME: Duration = Duration::from_secs(60);
