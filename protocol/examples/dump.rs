//! Writes the NAR of a store path to standard output, as `nix-store --dump` does, but through the daemon.
//!
//! ```text
//! cargo run -p harmonia-protocol --example dump -- /nix/store/…-name > name.nar
//! ```
//!
//! The daemon's socket is taken from `NIX_DAEMON_SOCKET_PATH`, else it is the default one.

use std::error::Error;

use harmonia_protocol::StoreDir;
use harmonia_protocol::client::{Client, NarStream};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: dump /nix/store/…-name")?;
    let socket = std::env::var("NIX_DAEMON_SOCKET_PATH").unwrap_or_else(|_| "/nix/var/nix/daemon-socket/socket".into());
    let store = StoreDir::default();
    let path = store.parse(&path)?;

    let mut client = Client::connect(UnixStream::connect(socket).await?, store).await?;
    let info = client.query_path_info(&path).await?.ok_or("the path is not valid")?;
    let mut nar = NarStream::open(&mut client, &path, info.nar_size).await?;
    let mut output = tokio::io::stdout();
    while let Some(bytes) = nar.chunk().await? {
        output.write_all(&bytes).await?;
    }
    output.flush().await?;
    Ok(())
}
