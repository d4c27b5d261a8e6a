//! Checks that the configured address can be bound, by binding it for a moment.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::report::Report;
use crate::admin::Client;
use crate::admin::report::Status;
use crate::config::{BindAddress, Config};
use crate::net::{BindError, Listener};

/// Limit on the wait for the server that uses the address.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Limit on its response, in bytes.
const MAX_RESPONSE: u64 = 4096;

pub(super) async fn check(config: &Config, report: &mut Report) {
    match Listener::bind(&config.bind, config.unix_socket_mode).await {
        Ok(_) => Report::line(format_args!("address: ok, {} is free", config.bind)),
        // A running harmonia is no problem: it stops before a new one starts.
        Err(error) if is_in_use(&error) => match timeout(TIMEOUT, version(&config.bind)).await {
            Ok(Ok(Some(version))) => {
                Report::line(format_args!("address: {} is in use by {version}, which is running", config.bind));
            }
            _ if is_running_server(config).await => {
                Report::line(format_args!("address: {} is in use by the running harmonia", config.bind));
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

/// Asks the server at this address for its version; `None` unless it is harmonia without TLS.
async fn version(address: &BindAddress) -> io::Result<Option<String>> {
    match address {
        BindAddress::Unix(path) => ask(UnixStream::connect(path).await?).await,
        BindAddress::Tcp(address) => {
            let own = address.replace("[::]:", "[::1]:").replace("0.0.0.0:", "127.0.0.1:");
            ask(TcpStream::connect(own).await?).await
        }
    }
}

/// Returns whether the running server listens on the configured address, according to its admin socket.
async fn is_running_server(config: &Config) -> bool {
    let asked = async { Client::find(config.admin_socket.as_deref()).await?.get::<Status>("/status?limit=0").await };
    let address = config.bind.to_string();
    match timeout(TIMEOUT, asked).await {
        Ok(Ok(status)) => {
            status.listening.iter().any(|url| url.split_once("://").is_some_and(|(_, place)| place == address))
        }
        _ => false,
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Option<String>> {
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await?;
    let response = String::from_utf8_lossy(&response);
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body.trim()).unwrap_or_default();
    Ok(body.starts_with("harmonia ").then(|| body.escape_default().to_string()))
}
