//! Byte streams to nix-daemon: a Unix socket, or the pipes of a program.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::config::DaemonAddress;
use crate::store::daemon::empty_store;

/// A byte stream to nix-daemon. Dropping it closes the socket or kills the program.
#[derive(Debug)]
pub(crate) enum Transport {
    /// nix-daemon's socket.
    Socket(UnixStream),
    /// A program that speaks the protocol.
    Program {
        /// Standard input, written to.
        stdin: ChildStdin,
        /// Standard output, read from.
        stdout: ChildStdout,
        /// Killed when dropped, then reaped by the runtime.
        _child: Box<Child>,
    },
}

impl Transport {
    /// Connects to the socket or starts the program, in one attempt.
    pub(crate) async fn open(address: &DaemonAddress) -> io::Result<(Self, Option<StderrTail>)> {
        match address {
            DaemonAddress::Socket(path) => Ok((Self::Socket(UnixStream::connect(path).await?), None)),
            DaemonAddress::None => Ok((Self::Socket(empty_store::connect()?), None)),
            DaemonAddress::Command(command) => {
                let mut child = Command::new(command.program())
                    .args(command.arguments())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()?;
                match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
                    (Some(stdin), Some(stdout), Some(stderr)) => {
                        let program = Self::Program { stdin, stdout, _child: Box::new(child) };
                        Ok((program, Some(StderrTail::listen(stderr))))
                    }
                    _ => Err(io::ErrorKind::BrokenPipe.into()),
                }
            }
        }
    }
}

/// Last line of a program's standard error, which is the reason if the program fails. Until then only debug logs have
/// it.
#[derive(Debug)]
pub(crate) struct StderrTail(JoinHandle<String>);

impl StderrTail {
    /// Upper bound of a line, in bytes; the rest counts as the next line.
    const MAX_LINE: u64 = 1000;
    /// Time that a program may keep its standard error open after closing its output.
    const PATIENCE: Duration = Duration::from_secs(1);

    fn listen(stderr: ChildStderr) -> Self {
        Self(tokio::spawn(async move {
            let mut lines = BufReader::new(stderr);
            let mut last = String::new();
            loop {
                let mut line = Vec::new();
                match (&mut lines).take(Self::MAX_LINE).read_until(b'\n', &mut line).await {
                    Ok(0) | Err(_) => return last,
                    Ok(_) => {}
                }
                let line = String::from_utf8_lossy(&line).trim_end().replace(char::is_control, " ");
                tracing::debug!("nix-daemon's program wrote to its standard error: {line}");
                if !line.is_empty() {
                    last = line;
                }
            }
        }))
    }

    /// Returns the last line of a program that has closed its output.
    pub(crate) async fn read(self) -> String {
        match tokio::time::timeout(Self::PATIENCE, self.0).await {
            Ok(Ok(line)) if !line.is_empty() => line,
            _ => "it exited before the handshake".to_owned(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_read(context, into),
            Self::Program { stdout, .. } => Pin::new(stdout).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Program { stdin, .. } => Pin::new(stdin).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_flush(context),
            Self::Program { stdin, .. } => Pin::new(stdin).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Program { stdin, .. } => Pin::new(stdin).poll_shutdown(context),
        }
    }
}
