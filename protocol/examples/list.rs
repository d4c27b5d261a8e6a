//! Lists every valid path of the store with the size of its NAR in bytes.
//!
//! ```text
//! cargo run --example list
//! ```

use std::io::Write as _;

use harmonia_protocol::StoreDir;
use harmonia_protocol::client::Client;
use harmonia_protocol::operation::QueryPathInfo;
use tokio::net::UnixStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::var("NIX_DAEMON_SOCKET_PATH").unwrap_or("/nix/var/nix/daemon-socket/socket".into());
    let store = StoreDir::default();
    let mut client = Client::connect(UnixStream::connect(socket).await?, store.clone()).await?;

    let paths = client.query_all_valid_paths().await?;
    // Does not wait for a reply before it sends the next query.
    let queries: Vec<_> = paths.iter().map(QueryPathInfo).collect();
    let infos = client.pipeline(&queries).await?;

    let mut output = std::io::stdout().lock();
    for (path, info) in paths.iter().zip(infos) {
        // `None` if the path was deleted since it was listed.
        if let Some(info) = info? {
            writeln!(output, "{:>12} {}", info.nar_size, store.full_path(path))?;
        }
    }
    Ok(())
}
