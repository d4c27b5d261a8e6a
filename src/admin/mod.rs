//! The local admin socket, by which subcommands query and control the running server.
//!
//! It serves HTTP/1.1 with JSON on a separate Unix socket, so that `curl --unix-socket PATH http://harmonia/status` works too.
//! None of it is reachable by clients of the cache. Only root and the server's user may connect: the socket has mode 0600, and
//! the credentials of each peer are checked. Owns the socket, its limits and the requests; leaves their meaning to
//! [`crate::http`], [`crate::nar_cache`] and [`crate::store`].
//!
//! - `socket`: binds it and accepts connections, each for one request;
//! - `requests`: dispatches a request to its handler;
//! - `nar_cache`: requests about the NAR cache;
//! - `bucket`: requests about what is published;
//! - `hidden`: requests about hidden paths;
//! - `pins`: requests about pins;
//! - [`report`]: the types of the status, which `status` collects;
//! - [`client`]: finds a server and sends it requests.
//!
//! A new request takes three steps:
//!
//! 1. types for its response and its body, if any, that derive `Serialize` and `Deserialize`, in a file of this module: server
//!    and subcommand share them;
//! 2. an arm in [`requests`](self): `(&Method::POST, "/cache/remove") => json(&remove(self, parse(body)?).await?)`;
//! 3. in the subcommand `Client::find(config.admin_socket.as_deref()).await?.post("/cache/remove", &paths).await?`.
//!
//! A response must be complete within `limits::MAX_TIME`. Longer work is started by one request and polled by others.

mod bucket;
pub(crate) mod client;
mod hidden;
mod limits;
mod nar_cache;
mod pins;
pub(crate) mod report;
mod requests;
mod socket;
mod status;

#[cfg(feature = "bucket")]
pub(crate) use bucket::Publishing;
pub(crate) use client::{Client, ClientError};
pub(crate) use hidden::{Hide, Unhidden};
pub(crate) use nar_cache::{ClosurePath, Paths, Queued, WarmProgress};
pub(crate) use pins::PinPaths;
pub(crate) use requests::{CacheDirectory, Server};
pub(crate) use socket::{AdminSocket, open};
