//! A scripted nix-daemon, which sends prepared bytes in reply to requests.
//!
//! A script is a stream without a clock or a task: its bytes are available at once, and after them it is at its end or
//! pending for ever. So the future of a client is polled once. If it is pending then it would be for ever, and [`run`]
//! fails the test.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use harmonia_protocol::handshake::Handshake;
use harmonia_protocol::version::{Feature, Version};
use harmonia_protocol::wire::{put_bytes, put_strings, put_u64};
use harmonia_protocol::{Client, ClientError, StoreDir, StorePath};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) const DAEMON_MAGIC: u64 = 0x6478_696f;
pub(crate) const LAST: u64 = 0x616c_7473;
pub(crate) const NEXT: u64 = 0x6f6c_6d67;
pub(crate) const READ: u64 = 0x6461_7461;
pub(crate) const ERROR: u64 = 0x6378_7470;

/// Record of what a client did with its end of the stream.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Bytes that it wrote.
    pub written: Vec<u8>,
    /// Number of bytes that it read.
    pub taken: usize,
    /// Largest buffer that it offered for one read, in bytes.
    pub room: usize,
    /// Whether it dropped the stream.
    pub closed: bool,
}

#[derive(Debug)]
struct Turn {
    /// Whether the client must write before it can read this.
    after_write: bool,
    bytes: Vec<u8>,
    sent: usize,
}

/// A scripted nix-daemon.
#[derive(Debug)]
pub(crate) struct Script {
    turns: VecDeque<Turn>,
    was_written: bool,
    piece: usize,
    hangs_up: bool,
    repeats: bool,
    record: Arc<Mutex<Record>>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            turns: VecDeque::new(),
            was_written: false,
            piece: usize::MAX,
            hangs_up: false,
            repeats: false,
            record: Arc::default(),
        }
    }

    /// Creates a nix-daemon of `version` with these features, up to the end of the handshake.
    pub(crate) fn greeting(version: Version, features: &[&str]) -> Self {
        let magic = numbers(&[DAEMON_MAGIC, version.to_wire()]);
        let mut rest = BytesMut::new();
        if version >= Version::NEWEST {
            put_strings(&mut rest, features.iter());
        }
        if version >= Version::DAEMON_RELEASE {
            put_bytes(&mut rest, b"2.34");
        }
        if version >= Version::TRUST {
            put_u64(&mut rest, 1);
        }
        rest.extend(numbers(&[LAST, LAST]));
        Self::new().replies(magic).replies(rest)
    }

    /// Sends these bytes after the client wrote.
    pub(crate) fn replies(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.turns.push_back(Turn { after_write: true, bytes: bytes.as_ref().to_vec(), sent: 0 });
        self
    }

    /// Sends these bytes right after those before, but in a separate read.
    pub(crate) fn adds(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.turns.push_back(Turn { after_write: false, bytes: bytes.as_ref().to_vec(), sent: 0 });
        self
    }

    /// Sends at most this many bytes in one read.
    pub(crate) fn in_pieces_of(mut self, bytes: usize) -> Self {
        self.piece = bytes;
        self
    }

    /// Closes the connection at the end, instead of staying silent.
    pub(crate) fn hangs_up(mut self) -> Self {
        self.hangs_up = true;
        self
    }

    /// Repeats the last bytes for ever.
    pub(crate) fn without_end(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Returns whether everything was sent.
    pub(crate) fn is_over(&self) -> bool {
        self.turns.is_empty()
    }

    pub(crate) fn record(&self) -> Arc<Mutex<Record>> {
        Arc::clone(&self.record)
    }

    /// Plays the script to a client in another process, whose every request must arrive in one read.
    pub(crate) fn serve(self, mut stream: UnixStream) {
        let mut request = vec![0; 64 * 1024];
        for turn in &self.turns {
            if turn.after_write {
                assert_ne!(stream.read(&mut request).unwrap(), 0, "the client asks for no more");
            }
            stream.write_all(&turn.bytes).unwrap();
        }
    }

    /// Connects a client that claims `version`. Returns it with a record of what it does after the handshake.
    pub(crate) fn client(self, version: Version) -> (Client<Self>, Arc<Mutex<Record>>) {
        let record = self.record();
        let client = run(greet(self, version, Feature::SUPPORTED)).unwrap();
        let mut greeted = record.lock().unwrap();
        greeted.written.clear();
        greeted.taken = 0;
        drop(greeted);
        (client, record)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.record.lock().unwrap().closed = true;
    }
}

impl AsyncRead for Script {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(turn) = this.turns.front_mut() else {
            return if this.hangs_up { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        if turn.after_write && !this.was_written {
            return Poll::Pending;
        }
        this.was_written = false;
        turn.after_write = false;
        let left = &turn.bytes[turn.sent..];
        let length = left.len().min(buffer.remaining()).min(this.piece);
        let mut record = this.record.lock().unwrap();
        record.room = record.room.max(buffer.remaining());
        record.taken += length;
        drop(record);
        buffer.put_slice(&left[..length]);
        turn.sent += length;
        if turn.sent == turn.bytes.len() {
            if this.repeats && this.turns.len() == 1 {
                this.turns[0].sent = 0;
            } else {
                this.turns.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.was_written = true;
        this.record.lock().unwrap().written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a future that has nothing to wait for.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    poll_once(&mut pin!(future)).unwrap_or_else(|| panic!("the client waits for a peer that has nothing more to say"))
}

/// Returns the output of a future that is ready at once.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Connects a client that claims `version`.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    version: Version,
    offered: &'static [Feature],
) -> Result<Client<S>, ClientError> {
    let mut outgoing = BytesMut::new();
    let handshake = Handshake::with_version(version, offered, StoreDir::default(), &mut outgoing);
    Client::connect_with(stream, handshake, outgoing).await
}

pub(crate) fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Encodes a string.
pub(crate) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_bytes(&mut out, text.as_ref());
    out.to_vec()
}

/// Encodes an error of protocol 1.26 and later.
pub(crate) fn error_frame(message: &str) -> Vec<u8> {
    let head = [numbers(&[ERROR]), string("Error"), numbers(&[0]), string("Error"), string(message)];
    [head.concat(), numbers(&[0, 0])].concat()
}

pub(crate) fn path(full: &str) -> StorePath {
    StoreDir::default().parse(full).unwrap()
}
