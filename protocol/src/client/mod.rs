//! A client of nix-daemon over any [`AsyncRead`](tokio::io::AsyncRead) + [`AsyncWrite`](tokio::io::AsyncWrite).
//!
//! This is the only module of the crate that does I/O. **A client is usable only while it is in step with its
//! nix-daemon**: every exchange takes the stream out of the client and puts it back when the reply was read completely.
//! An exchange that ends in another way (by an error or a dropped future) drops the stream, which closes the connection
//! and ends the process of nix-daemon that serves it. Timeouts, retries and pools belong to the caller.

mod connection;
mod exchange;
mod nar_stream;
mod operations;
mod upload;

pub use connection::Client;
pub use nar_stream::NarStream;
pub use upload::Upload;
