//! Writes the NARs of store paths to standard output, one after the other, as `nix-store --dump` does for one.
//!
//! ```text
//! cargo run --example dump -- /nix/store/…-name > name.nar
//! ```

use std::io::Write as _;

use harmonia_protocol::StoreDir;
use harmonia_protocol::client::{Client, NarStream};
use tokio::net::UnixStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::var("NIX_DAEMON_SOCKET_PATH").unwrap_or("/nix/var/nix/daemon-socket/socket".into());
    let store = StoreDir::default();
    let mut client = Client::connect(UnixStream::connect(socket).await?, store.clone()).await?;

    // Nothing else runs meanwhile, so writing may block.
    let mut output = std::io::stdout().lock();
    for full_path in std::env::args().skip(1) {
        let path = store.parse(&full_path)?;
        let info = client.query_path_info(&path).await?.ok_or(format!("{full_path} is not valid"))?;
        let mut nar = NarStream::open(&mut client, &path, info.nar_size).await?;
        while let Some(bytes) = nar.chunk().await? {
            output.write_all(&bytes)?;
        }
    }
    Ok(())
}
