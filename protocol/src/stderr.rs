//! Messages that nix-daemon sends before each reply: log lines and activities, up to LAST or ERROR.
//!
//! Does no I/O: bytes are pushed in, messages come out. Each message and all messages before one reply have an upper
//! bound, so nix-daemon cannot delay a reply for ever by logging.
//!
//! Source: Nix `src/libstore/worker-protocol-connection.cc`, `processStderr`.

use bytes::{Buf, BytesMut};

use crate::version::Version;
use crate::wire::{DecodeError, DecodeErrorKind, Field, Reader, STRING, Scanner, Schema, Shape, TEXT, field};

const LAST: u64 = 0x616c_7473;
/// Tag of an error. In a NAR it may occur in place of the length of a token, see [`Parser`](crate::nar::Parser).
pub const ERROR: u64 = 0x6378_7470;
const NEXT: u64 = 0x6f6c_6d67;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;
const READ: u64 = 0x6461_7461;

/// Largest message, in bytes: an error with all of its traces.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Most bytes of messages before one reply. A verbose nix-daemon sends some hundred.
const MAX_TOTAL: usize = 64 * 1024 * 1024;
/// Longest text of an error that is kept, in bytes: a line of a log, not a page.
const MAX_ERROR_TEXT: usize = 2000;

/// Most fields of an activity; Nix has up to four.
const MAX_ACTIVITY_FIELDS: usize = 64;
const ACTIVITY_FIELDS: Shape = Shape::Repeat {
    max: MAX_ACTIVITY_FIELDS,
    item: &[field(
        "activity field",
        Shape::Choice(&[(0, &[field("number", Shape::U64)]), (1, &[field("text", TEXT)])]),
    )],
};
const START: Schema = &[
    field("activity id", Shape::U64),
    field("activity level", Shape::U64),
    field("activity type", Shape::U64),
    field("activity text", TEXT),
    field("activity fields", ACTIVITY_FIELDS),
    field("parent activity", Shape::U64),
];
const STOP: Schema = &[field("activity id", Shape::U64)];
const ACTIVITY_RESULT: Schema =
    &[field("activity id", Shape::U64), field("result type", Shape::U64), field("result fields", ACTIVITY_FIELDS)];
/// `havePos` is always 0. Any other value is an unknown tag.
const NO_POSITION: Shape = Shape::Choice(&[(0, &[])]);
/// Most traces of an error; Nix sends some dozen.
const MAX_TRACES: usize = 10_000;
const STRUCTURED_ERROR: Schema = &[
    field("error type", STRING),
    field("error level", Shape::U64),
    field("error name", STRING),
    field("error message", TEXT),
    field("error position", NO_POSITION),
    field(
        "error traces",
        Shape::Repeat { max: MAX_TRACES, item: &[field("trace position", NO_POSITION), field("trace hint", TEXT)] },
    ),
];
const PLAIN_ERROR: Schema = &[field("error message", TEXT), field("error status", Shape::U64)];

const LOG_LINE: Schema = &[field("log line", TEXT)];
const WANTED: Schema = &[field("wanted bytes", Shape::U64)];

const fn message_schema(error: Schema) -> [(u64, Schema); 7] {
    [
        (LAST, &[]),
        (ERROR, error),
        (NEXT, LOG_LINE),
        (START_ACTIVITY, START),
        (STOP_ACTIVITY, STOP),
        (RESULT, ACTIVITY_RESULT),
        (READ, WANTED),
    ]
}
static STRUCTURED: [(u64, Schema); 7] = message_schema(STRUCTURED_ERROR);
static PLAIN: [(u64, Schema); 7] = message_schema(PLAIN_ERROR);
static STRUCTURED_MESSAGE: [Field; 1] = [field("daemon message", Shape::Choice(&STRUCTURED))];
static PLAIN_MESSAGE: [Field; 1] = [field("daemon message", Shape::Choice(&PLAIN))];

const fn is_structured(version: Version) -> bool {
    version.to_wire() >= Version::STRUCTURED_ERRORS.to_wire()
}

/// Error that nix-daemon reports: its text without colours and control characters, cut to about 2000 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DaemonError {
    message: String,
}

impl DaemonError {
    /// Returns the text. There is no machine-readable code.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    fn decode(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if is_structured(version) {
            reader.bytes("error type")?;
            reader.u64("error level")?;
            reader.bytes("error name")?;
        }
        Ok(Self { message: printable(reader.bytes("error message")?, MAX_ERROR_TEXT) })
    }
}

/// Returns text of a peer that is safe in a log line: without escape sequences, control characters and characters that
/// reorder the line on a terminal, and of at most about `max` bytes.
pub(crate) fn printable(bytes: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut characters = text.chars();
    let mut clean = String::new();
    while let Some(character) = characters.next() {
        match character {
            // A colour, `ESC [ … m`: everything up to its final letter.
            '\u{1b}' => drop(characters.find(char::is_ascii_alphabetic)),
            // Line and paragraph separators, and what overrides the direction of text.
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => clean.push(' '),
            character if character.is_control() => clean.push(' '),
            character => clean.push(character),
        }
        if clean.len() > max {
            clean.push('…');
            break;
        }
    }
    clean.trim().trim_start_matches("error:").trim_start().to_owned()
}

/// A message, as far as it matters to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The reply follows.
    Last,
    /// The operation failed, and no reply follows.
    Error(DaemonError),
    /// nix-daemon asks for at most this many bytes of an upload (protocol 1.22 and below).
    Read(u64),
    /// A log line or activity. Its contents are dropped.
    Log,
}

/// Reader of the messages before one reply.
#[derive(Debug)]
pub struct StderrLoop {
    version: Version,
    scanner: Scanner,
    total: usize,
}

impl StderrLoop {
    /// Creates a reader for a connection of protocol `version`.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self { version, scanner: Self::scanner(version), total: 0 }
    }

    fn scanner(version: Version) -> Scanner {
        Scanner::new(if is_structured(version) { &STRUCTURED_MESSAGE } else { &PLAIN_MESSAGE }, MAX_MESSAGE)
    }

    /// Consumes the next message at the front of `incoming`. Returns `None` while it is incomplete.
    pub fn advance(&mut self, incoming: &mut BytesMut) -> Result<Option<Message>, DecodeError> {
        let Some(length) = self.scanner.advance(incoming)? else { return Ok(None) };
        self.total += length;
        if self.total > MAX_TOTAL {
            return Err(DecodeErrorKind::MessageTooLarge(MAX_TOTAL).in_field("daemon messages"));
        }
        let mut reader = Reader::new(&incoming[..length]);
        let message = match reader.u64("daemon message")? {
            LAST => Message::Last,
            ERROR => Message::Error(DaemonError::decode(self.version, &mut reader)?),
            READ => Message::Read(reader.u64("wanted bytes")?),
            _ => Message::Log,
        };
        incoming.advance(length);
        self.scanner = Self::scanner(self.version);
        Ok(Some(message))
    }
}

/// Decodes an error whose tag was found in a NAR. `payload` begins after the tag. Returns `None` while it is incomplete.
pub fn decode_error_after_tag(version: Version, payload: &[u8]) -> Result<Option<DaemonError>, DecodeError> {
    let schema = if is_structured(version) { STRUCTURED_ERROR } else { PLAIN_ERROR };
    match Scanner::new(schema, MAX_MESSAGE).advance(payload)? {
        Some(length) => DaemonError::decode(version, &mut Reader::new(&payload[..length])).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{put_bytes, put_u64};

    fn activity(out: &mut BytesMut) {
        for number in [START_ACTIVITY, 9, 6, 0] {
            put_u64(out, number);
        }
        put_bytes(out, b"querying");
        put_u64(out, 2);
        put_u64(out, 0);
        put_u64(out, 17);
        put_u64(out, 1);
        put_bytes(out, b"text");
        put_u64(out, 0);
        for number in [RESULT, 9, 105, 0, STOP_ACTIVITY, 9] {
            put_u64(out, number);
        }
    }

    fn error(out: &mut BytesMut, message: &[u8]) {
        put_u64(out, ERROR);
        put_bytes(out, b"Error");
        put_u64(out, 0);
        put_bytes(out, b"Error");
        put_bytes(out, message);
        put_u64(out, 0);
        put_u64(out, 1);
        put_u64(out, 0);
        put_bytes(out, b"while doing it");
    }

    fn drain(version: Version, bytes: &[u8]) -> Result<Vec<Message>, DecodeError> {
        let mut incoming = BytesMut::from(bytes);
        let mut stderr = StderrLoop::new(version);
        let mut messages = Vec::new();
        while let Some(message) = stderr.advance(&mut incoming)? {
            messages.push(message);
        }
        assert!(incoming.is_empty());
        Ok(messages)
    }

    #[test]
    fn every_kind_of_message_is_skipped_up_to_the_error() {
        let mut out = BytesMut::new();
        put_u64(&mut out, NEXT);
        put_bytes(&mut out, b"warning\n");
        activity(&mut out);
        error(&mut out, b"\x1b[31;1merror:\x1b[0m path '\x1b[35;1m/nix/x\x1b[0m' is\nnot valid");
        let last = Message::Error(DaemonError { message: "path '/nix/x' is not valid".into() });
        assert_eq!(
            drain(Version::NEWEST, &out),
            Ok(vec![Message::Log, Message::Log, Message::Log, Message::Log, last])
        );
    }

    #[test]
    fn old_daemons_errors_are_a_text_and_a_status() {
        let mut out = BytesMut::new();
        put_u64(&mut out, ERROR);
        put_bytes(&mut out, b"no");
        put_u64(&mut out, 1);
        assert_eq!(drain(Version::OLDEST, &out), Ok(vec![Message::Error(DaemonError { message: "no".into() })]));
        assert_eq!(decode_error_after_tag(Version::OLDEST, &out[8..]).unwrap().unwrap().message(), "no");
        assert_eq!(decode_error_after_tag(Version::OLDEST, &out[8..out.len() - 1]), Ok(None));
    }

    #[test]
    fn unknown_messages_positions_and_field_tags_are_errors() {
        for bytes in [&[0x16u64 | (0x6461_7400 << 8)][..], &[0], &[u64::MAX], &[RESULT, 1, 2, 1, 2]] {
            let mut out = BytesMut::new();
            for number in bytes {
                put_u64(&mut out, *number);
            }
            assert!(StderrLoop::new(Version::NEWEST).advance(&mut out).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn endless_logging_is_cut_off() {
        let mut line = BytesMut::new();
        put_u64(&mut line, NEXT);
        put_bytes(&mut line, &vec![b'x'; 1024 * 1024]);
        let mut stderr = StderrLoop::new(Version::NEWEST);
        let outcome = (0..100).find_map(|_| stderr.advance(&mut line.clone()).err());
        assert_eq!(outcome, Some(DecodeErrorKind::MessageTooLarge(MAX_TOTAL).in_field("daemon messages")));
    }

    #[test]
    fn hostile_error_text_cannot_forge_log_lines() {
        let text = printable("a\r\n2026 INFO forged \x1b]0;title\x07\0 \u{202e}\u{2028} end".as_bytes(), 100);
        assert_eq!(text, "a  2026 INFO forged itle      end");
        assert!(printable(&vec![b'x'; 1_000_000], 2000).len() < 2010);
    }
}
