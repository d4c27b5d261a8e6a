//! Messages before a result: they do not depend on how they come cut, and no error of a daemon forges a line of the log.

use bytes::{Buf as _, BytesMut};
use harmonia_protocol::stderr::{ERROR, Message, StderrLoop, decode_error_after_tag};
use harmonia_protocol::version::Version;
use harmonia_protocol::wire::DecodeError;

use super::{Parameters, ends};

pub(super) const LAST: u64 = 0x616c_7473;
/// The most of an error that a log gets, in bytes.
const MAX_ERROR: usize = 2000;

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let (version, piece) = (parameters.byte(), parameters.piece());
    let version = Version::from_minor(21 + version % 18);
    let bytes = parameters.rest();
    let whole = messages(version, bytes, bytes.len().max(1));
    assert_eq!(messages(version, bytes, piece), whole, "in pieces of {piece}");
    for message in &whole.0 {
        if let Message::Error(error) = message {
            assert!(is_fit_for_a_log(error.message(), MAX_ERROR), "{error:?}");
        }
    }
    if let Some(payload) = bytes.strip_prefix(&ERROR.to_le_bytes()) {
        let first = match whole {
            (messages, Err(error)) if messages.is_empty() => Err(error),
            (messages, _) => Ok(messages.into_iter().next()),
        };
        let in_a_nar = decode_error_after_tag(version, payload).map(|error| error.map(Message::Error));
        match (first, in_a_nar) {
            (Ok(first), Ok(in_a_nar)) => assert_eq!(first, in_a_nar),
            (first, in_a_nar) => assert_eq!(first.is_err(), in_a_nar.is_err()),
        }
    }
}

/// All messages, and how many bytes they took or what ended them.
fn messages(version: Version, bytes: &[u8], piece: usize) -> (Vec<Message>, Result<usize, DecodeError>) {
    let mut stderr = StderrLoop::new(version);
    let (mut incoming, mut messages) = (BytesMut::new(), Vec::new());
    let mut start = 0;
    for end in ends(bytes.len(), piece) {
        incoming.extend_from_slice(&bytes[start..end]);
        start = end;
        loop {
            match stderr.advance(&mut incoming) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
    }
    (messages, Ok(bytes.len() - incoming.remaining()))
}

/// One line, which does nothing to a terminal and is not much longer than this.
pub(super) fn is_fit_for_a_log(text: &str, max: usize) -> bool {
    let turns = |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.len() <= max + 8 && !text.contains(|c: char| c.is_control() || turns(c))
}
