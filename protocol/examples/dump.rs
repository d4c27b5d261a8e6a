//! Writes the NARs of store paths to standard output, one after the other, as `nix-store --dump` does, but through the
//! daemon.
//!
//! ```text
//! cargo run -p harmonia-protocol --example dump -- /nix/store/…-name > name.nar
//! ```
//!
//! The daemon's socket is taken from `NIX_DAEMON_SOCKET_PATH`, else it is the default one.

use std::error::Error;
use std::io::Write as _;

use harmonia_protocol::StoreDir;
use harmonia_protocol::client::{Client, NarStream};
use harmonia_protocol::operation::QueryPathInfo;
use tokio::net::UnixStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::var("NIX_DAEMON_SOCKET_PATH").unwrap_or_else(|_| "/nix/var/nix/daemon-socket/socket".into());
    let store = StoreDir::default();
    let paths = std::env::args().skip(1).map(|path| store.parse(&path)).collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() {
        return Err("usage: dump /nix/store/…-name...".into());
    }

    let mut client = Client::connect(UnixStream::connect(socket).await?, store).await?;
    let questions: Vec<_> = paths.iter().map(QueryPathInfo).collect();
    let infos = client.pipeline(&questions).await?;
    // Nothing else is to be done meanwhile, so that writing may block.
    let mut output = std::io::stdout().lock();
    for (path, info) in paths.iter().zip(infos) {
        let info = info?.ok_or_else(|| format!("{path} is not valid"))?;
        let mut nar = NarStream::open(&mut client, path, info.nar_size).await?;
        while let Some(bytes) = nar.chunk().await? {
            output.write_all(&bytes)?;
        }
    }
    output.flush()?;
    Ok(())
}
