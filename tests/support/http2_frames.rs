//! HTTP/2 frame by frame (RFC 9113), also as no library sends them, over a plain connection with prior knowledge.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Upper bound of the wait for a response: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
/// Flag of SETTINGS and PING.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// Encodes a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes the header block of a GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    request("GET", path, &[])
}

/// Encodes the header block of a request with literal fields: no tables, no Huffman code.
pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "cache"), (":path", path)];
    pseudo.iter().chain(fields).flat_map(|(name, value)| field(name, value)).collect()
}

/// Encodes a literal field without indexing (RFC 7541, section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0], &*string(name), &*string(value)].concat()
}

/// Encodes a string of up to 16 KiB (RFC 7541, sections 5.1 and 5.2).
pub(crate) fn string(text: &str) -> Vec<u8> {
    let length = text.len();
    let head = match length.checked_sub(127) {
        None => vec![u8::try_from(length).unwrap()],
        Some(rest) => vec![127, u8::try_from(rest % 128).unwrap() | 128, u8::try_from(rest / 128).unwrap()],
    };
    [&*head, text.as_bytes()].concat()
}

/// Connection whose frames a thread reads, so that a flood in one direction does not block on the other.
pub(crate) struct RawHttp2 {
    stream: TcpStream,
    answers: JoinHandle<Vec<Frame>>,
}

impl RawHttp2 {
    /// Connects and sends the preface with empty SETTINGS.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut stream = connect(address);
        let incoming = stream.try_clone().unwrap();
        let answers = thread::spawn(move || frames(incoming));
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self { stream, answers }
    }

    /// Sends bytes; returns whether the server accepted them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends the same bytes up to this many times; returns how many times the server accepted them.
    pub(crate) fn flood(&mut self, bytes: &[u8], times: usize) -> usize {
        (0..times).take_while(|_| self.send(bytes)).count()
    }

    /// Closes the sending half and returns all frames that the server sends until it closes the connection.
    pub(crate) fn finish(mut self) -> Answers {
        self.send(&frame(GOAWAY, 0, 0, &[0; 8]));
        Answers(self.answers.join().unwrap())
    }
}

/// Opens a connection that sends these bytes and never reads; closed on drop.
pub(crate) fn deaf(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    stream
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(PREFACE).unwrap();
    stream
}

/// Reads all frames up to the end of the connection, orderly or not.
fn frames(mut stream: TcpStream) -> Vec<Frame> {
    let mut found = Vec::new();
    loop {
        match next(&mut stream) {
            // A flood has as many replies.
            Ok(answer) if matches!(answer.kind, SETTINGS | PING) && answer.flags == ACK => {}
            Ok(answer) => found.push(answer),
            Err(error) => {
                let timed_out = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                assert!(!timed_out, "the server neither answers nor closes after {found:?}");
                return found;
            }
        }
    }
}

fn next(stream: &mut TcpStream) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [a, b, c, kind, flags, stream_id @ ..] = head;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
    stream.read_exact(&mut payload)?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream_id), payload })
}

/// All frames that a server sent on a connection.
#[derive(Debug)]
pub(crate) struct Answers(Vec<Frame>);

impl Answers {
    /// Returns the error code of GOAWAY.
    pub(crate) fn goaway(&self) -> Option<u32> {
        let frame = self.0.iter().rev().find(|frame| frame.kind == GOAWAY)?;
        Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()))
    }

    /// Returns the error code of a stream's RST_STREAM.
    pub(crate) fn reset(&self, stream: u32) -> Option<u32> {
        let frame = self.0.iter().find(|frame| (frame.kind, frame.stream) == (RST_STREAM, stream))?;
        Some(u32::from_be_bytes(frame.payload[..4].try_into().unwrap()))
    }

    /// Returns the status of each response, which must be in HPACK's static table or a literal.
    pub(crate) fn statuses(&self) -> Vec<(u32, u16)> {
        let heads = self.0.iter().filter(|frame| frame.kind == HEADERS);
        heads.map(|frame| (frame.stream, status(&frame.payload))).collect()
    }
}

/// Decodes `:status`, the first field (RFC 7541, appendix A; section 6.2 for a literal).
fn status(block: &[u8]) -> u16 {
    // A table size update may precede it.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    match block[0] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        // Index of the name, then three digits, plain or in Huffman code.
        _ if block[1] & 0x80 != 0 => digits([block[2], block[3], block[4], 0]),
        _ => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
    }
}

/// Decodes three digits in Huffman code: `0` to `2` have five bits, `3` to `9` six, from 0x19 on (RFC 7541, appendix B).
fn digits(code: [u8; 4]) -> u16 {
    let mut code = u32::from_be_bytes(code);
    let mut number = 0;
    for _ in 0..3 {
        let (digit, bits) = if code >> 27 <= 2 { (code >> 27, 5) } else { ((code >> 26) - 0x19 + 3, 6) };
        number = number * 10 + u16::try_from(digit).unwrap();
        code <<= bits;
    }
    number
}
