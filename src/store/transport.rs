//! The bytes between us and a daemon: a Unix socket, or the pipes of a program.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::config::DaemonAddress;

/// A connection to a daemon. Dropping it closes the socket or kills the program.
#[derive(Debug)]
pub(super) enum Transport {
    /// The daemon's socket.
    Socket(UnixStream),
    /// A program that speaks the protocol; its standard error is ours.
    Program {
        /// What is written is its standard input.
        stdin: ChildStdin,
        /// What is read is its standard output.
        stdout: ChildStdout,
        /// Killed when it is dropped, and then reaped by the runtime.
        _child: Box<Child>,
    },
}

impl Transport {
    /// Connects to the socket or starts the program; one attempt.
    pub(super) async fn open(address: &DaemonAddress) -> io::Result<Self> {
        match address {
            DaemonAddress::Socket(path) => UnixStream::connect(path).await.map(Self::Socket),
            DaemonAddress::Command(command) => {
                let mut child = Command::new(command.program())
                    .args(command.arguments())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()?;
                match (child.stdin.take(), child.stdout.take()) {
                    (Some(stdin), Some(stdout)) => Ok(Self::Program { stdin, stdout, _child: Box::new(child) }),
                    _ => Err(io::ErrorKind::BrokenPipe.into()),
                }
            }
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
