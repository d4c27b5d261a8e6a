//! A store without paths, for a host that has no nix-daemon: the other end of a connection that answers as a nix-daemon would.
//!
//! So nothing else has to know whether there is one. It knows the queries of this program and their replies when there is
//! nothing, in protocol 1.37; any other operation closes the connection.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;
/// 1.37: a release and trust, and no features.
const VERSION: u64 = 0x125;
const NOT_TRUSTED: u64 = 2;
/// End of the messages before a reply.
const LAST: u64 = 0x616c_7473;
/// What the client sends after its version: CPU affinity, reserved space, and SetOptions with its thirteen values.
const REST_OF_HANDSHAKE: usize = 2 + 1 + 13;
/// Largest string of an operation, in bytes; the longest is a store path.
const MAX_STRING: u64 = 4096;
/// Most paths of an operation.
const MAX_PATHS: u64 = 1 << 20;

const QUERY_ALL_VALID_PATHS: u64 = 23;
const QUERY_PATH_INFO: u64 = 26;
const QUERY_PATH_FROM_HASH_PART: u64 = 29;
const QUERY_VALID_PATHS: u64 = 31;
const QUERY_REALISATION: u64 = 43;

/// Connects to it.
pub(crate) fn connect() -> io::Result<UnixStream> {
    let (client, daemon) = UnixStream::pair()?;
    // Ends with the connection, whatever ends that.
    tokio::spawn(async move {
        let _ = serve(BufReader::new(daemon)).await;
    });
    Ok(client)
}

async fn serve(mut stream: BufReader<UnixStream>) -> io::Result<()> {
    let release = *b"none\0\0\0\0";
    let mut greeting = Vec::new();
    for number in [DAEMON_MAGIC, VERSION, 4, u64::from_le_bytes(release), NOT_TRUSTED, LAST, LAST] {
        greeting.extend_from_slice(&number.to_le_bytes());
    }
    stream.write_all(&greeting).await?;
    let (magic, _claimed) = (stream.read_u64_le().await?, stream.read_u64_le().await?);
    if magic != CLIENT_MAGIC {
        return Ok(());
    }
    for _ in 0..REST_OF_HANDSHAKE {
        stream.read_u64_le().await?;
    }
    loop {
        let reply = match stream.read_u64_le().await? {
            QUERY_ALL_VALID_PATHS => 0,
            // No path: an empty string, "not valid", or an empty set.
            QUERY_PATH_INFO | QUERY_PATH_FROM_HASH_PART | QUERY_REALISATION => {
                skip_string(&mut stream).await?;
                0
            }
            QUERY_VALID_PATHS => {
                let paths = stream.read_u64_le().await?;
                if paths > MAX_PATHS {
                    return Ok(());
                }
                for _ in 0..paths {
                    skip_string(&mut stream).await?;
                }
                let _substitutes = stream.read_u64_le().await?;
                0
            }
            _ => return Ok(()),
        };
        stream.write_all([LAST, reply].map(u64::to_le_bytes).as_flattened()).await?;
    }
}

async fn skip_string(stream: &mut BufReader<UnixStream>) -> io::Result<()> {
    let length = stream.read_u64_le().await?;
    if length > MAX_STRING {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = stream.take(length.next_multiple_of(8));
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use harmonia_protocol::client::Client;
    use harmonia_protocol::derivation_output::DerivationOutput;
    use harmonia_protocol::operation::{
        QueryAllValidPaths, QueryPathFromHashPart, QueryPathInfo, QueryRealisation, QueryValidPaths,
    };
    use harmonia_protocol::{HashPart, StoreDir, StorePath};

    use super::*;

    #[tokio::test]
    async fn it_has_no_path_by_any_query() {
        let mut client = Client::connect(connect().unwrap(), StoreDir::default()).await.unwrap();
        let path = StorePath::from_base_name(&format!("{}-a", "1".repeat(32))).unwrap();
        let output = DerivationOutput::Hashed(format!("sha256:{}!out", "7b".repeat(32)).parse().unwrap());
        // Twice, so that each leaves the connection in step.
        for _ in 0..2 {
            assert_eq!(client.call(&QueryPathFromHashPart(HashPart::ZERO)).await.unwrap(), None);
            assert_eq!(client.call(&QueryPathInfo(&path)).await.unwrap(), None);
            assert_eq!(client.call(&QueryAllValidPaths).await.unwrap(), []);
            assert_eq!(client.call(&QueryValidPaths(&[path.clone(), path.clone()])).await.unwrap(), []);
            assert!(client.call(&QueryRealisation(&output)).await.unwrap().is_none());
        }
    }
}
