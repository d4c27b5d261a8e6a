//! A daemon that says what it was told to say, when it is asked.
//!
//! A script is a stream without a clock or a task behind it: whatever it has is there at once, and where it has
//! nothing more, it is either at its end or silent for ever. So a client's future is polled once, and one that is not
//! ready then would wait for ever: [`run`] fails the test.

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

/// What a client did to its end of the stream.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// What it wrote.
    pub written: Vec<u8>,
    /// How many bytes it took.
    pub taken: usize,
    /// The most room that it held ready for one read, in bytes.
    pub room: usize,
    /// Whether it dropped the stream.
    pub closed: bool,
}

#[derive(Debug)]
struct Turn {
    /// Whether the client must write something before it hears this.
    asked: bool,
    words: Vec<u8>,
    said: usize,
}

/// A scripted daemon.
#[derive(Debug)]
pub(crate) struct Script {
    turns: VecDeque<Turn>,
    heard: bool,
    piece: usize,
    hangs_up: bool,
    repeats: bool,
    record: Arc<Mutex<Record>>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            turns: VecDeque::new(),
            heard: false,
            piece: usize::MAX,
            hangs_up: false,
            repeats: false,
            record: Arc::default(),
        }
    }

    /// A daemon of `version` without features, up to the end of its greeting.
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
        Self::new().answers(magic).answers(rest)
    }

    /// Says this after the client has written.
    pub(crate) fn answers(mut self, words: impl AsRef<[u8]>) -> Self {
        self.turns.push_back(Turn { asked: true, words: words.as_ref().to_vec(), said: 0 });
        self
    }

    /// Says this right after what it said before, but in a piece of its own.
    pub(crate) fn adds(mut self, words: impl AsRef<[u8]>) -> Self {
        self.turns.push_back(Turn { asked: false, words: words.as_ref().to_vec(), said: 0 });
        self
    }

    /// Says at most so many bytes at once.
    pub(crate) fn in_pieces_of(mut self, bytes: usize) -> Self {
        self.piece = bytes;
        self
    }

    /// Closes the connection at the end; otherwise it is silent.
    pub(crate) fn hangs_up(mut self) -> Self {
        self.hangs_up = true;
        self
    }

    /// Says its last words again and again.
    pub(crate) fn without_end(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Whether all has been said.
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
            if turn.asked {
                assert_ne!(stream.read(&mut request).unwrap(), 0, "the client asks for no more");
            }
            stream.write_all(&turn.words).unwrap();
        }
    }

    /// A client that has greeted this daemon and claimed `version`, and what it does from then on.
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
        if turn.asked && !this.heard {
            return Poll::Pending;
        }
        this.heard = false;
        turn.asked = false;
        let left = &turn.words[turn.said..];
        let length = left.len().min(buffer.remaining()).min(this.piece);
        let mut record = this.record.lock().unwrap();
        record.room = record.room.max(buffer.remaining());
        record.taken += length;
        drop(record);
        buffer.put_slice(&left[..length]);
        turn.said += length;
        if turn.said == turn.words.len() {
            if this.repeats && this.turns.len() == 1 {
                this.turns[0].said = 0;
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
        this.heard = true;
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

/// Carries a future through that has nothing to wait for.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    poll_once(&mut pin!(future)).unwrap_or_else(|| panic!("the client waits for a peer that has nothing more to say"))
}

/// What a future has to say at once.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Greets a daemon as a client of `version`.
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

/// A padded string.
pub(crate) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_bytes(&mut out, text.as_ref());
    out.to_vec()
}

/// An error frame as from protocol 1.26 on.
pub(crate) fn error_frame(message: &str) -> Vec<u8> {
    let head = [numbers(&[ERROR]), string("Error"), numbers(&[0]), string("Error"), string(message)];
    [head.concat(), numbers(&[0, 0])].concat()
}

pub(crate) fn path(full: &str) -> StorePath {
    StoreDir::default().parse(full).unwrap()
}
