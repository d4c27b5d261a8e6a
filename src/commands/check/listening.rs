//! Whether the configured address can be listened on: that is tried, and given up again at once.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Report;
use crate::admin::Client;
use crate::admin::report::Status;
use crate::config::{BindAddress, Config};
use crate::net::{BindError, Listener};

/// For an answer of the server that has the address.
const ANSWER: Duration = Duration::from_secs(2);
/// Longest answer that is looked at, in bytes.
const MAX_ANSWER: u64 = 4096;

pub(super) async fn check(config: &Config, report: &mut Report) {
    match Listener::bind(&config.bind, config.unix_socket_mode).await {
        Ok(_) => Report::line(format_args!("address: ok, {} is free", config.bind)),
        // It is not in the way of itself: it is stopped before it starts again.
        Err(error) if is_in_use(&error) => match timeout(ANSWER, version(&config.bind)).await {
            Ok(Ok(Some(version))) => {
                Report::line(format_args!("address: {} is that of {version}, which runs", config.bind));
            }
            _ if is_ours(config).await => {
                Report::line(format_args!("address: {} is that of the harmonia that runs", config.bind));
            }
            _ => report.problem(error),
        },
        Err(error) => report.problem(error),
    }
}

fn is_in_use(error: &BindError) -> bool {
    match error {
        BindError::Bind { cause, .. } => cause.kind() == io::ErrorKind::AddrInUse,
        BindError::InUse(_) => true,
        BindError::Resolve { .. } | BindError::NotASocket(_) => false,
    }
}

/// Asks the server at this address for its name and version, which are nothing unless it is harmonia without TLS.
async fn version(address: &BindAddress) -> io::Result<Option<String>> {
    match address {
        BindAddress::Unix(path) => ask(UnixStream::connect(path).await?).await,
        BindAddress::Tcp(address) => {
            let own = address.replace("[::]:", "[::1]:").replace("0.0.0.0:", "127.0.0.1:");
            ask(TcpStream::connect(own).await?).await
        }
    }
}

/// Whether the server that runs says by its admin socket that it listens at the configured address.
async fn is_ours(config: &Config) -> bool {
    let asked = async { Client::find(config.admin_socket.as_deref()).await?.get::<Status>("/status?limit=0").await };
    let address = config.bind.to_string();
    match timeout(ANSWER, asked).await {
        Ok(Ok(status)) => {
            status.listening.iter().any(|url| url.split_once("://").is_some_and(|(_, place)| place == address))
        }
        _ => false,
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Option<String>> {
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim()).unwrap_or_default();
    Ok(body.starts_with("harmonia ").then(|| body.escape_default().to_string()))
}
