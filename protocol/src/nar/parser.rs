//! The streaming parser: finds the tokens and the end of a NAR that arrives in pieces.
//!
//! Buffers at most one token, where a piece ends inside it, and skips the contents of files without a copy. The order of
//! tokens is in `grammar.rs`.

use super::error::NarError;
use super::event::Event;
use super::grammar::{Grammar, Next};

/// Tag of an error (`STDERR_ERROR` in Nix's `worker-protocol.hh`). nix-daemon writes it in place of the length of a token
/// when it cannot go on with a NAR.
const ERROR_TAG: u64 = crate::stderr::ERROR;

/// Bytes of a length. Tokens are padded to a multiple of it.
const WORD: usize = 8;

/// Name, for errors, of the one part that is not a token of the grammar.
const CONTENTS: &str = "a file's contents";

/// A streaming parser, which checks everything of a NAR except its hash.
///
/// Pieces may be cut anywhere; events and errors do not depend on that.
#[derive(Debug)]
pub struct Parser {
    grammar: Grammar,
    inside: Inside,
    /// Start of a token whose rest has not arrived: at most a length and the longest symlink target, padded.
    partial: Vec<u8>,
    offset: u64,
    limit: u64,
}

/// Result of [`Parser::feed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Feed {
    /// All of the input belongs to the NAR, which is not complete.
    More,
    /// The NAR is complete.
    Finished {
        /// Number of bytes of this input that belong to the NAR.
        consumed: usize,
    },
    /// An error of nix-daemon is in place of a token, after [`Parser::offset`] bytes of the NAR.
    ErrorFrame {
        /// Number of bytes of this input up to the end of the error's tag, which may have begun in an earlier input. The
        /// error follows, for [`decode_error_after_tag`](crate::stderr::decode_error_after_tag).
        consumed: usize,
    },
}

#[derive(Debug)]
enum Inside {
    /// Before the length of a token.
    Token,
    /// Before the size of a file.
    Size,
    /// Contents of a file: bytes left, and bytes of padding after them.
    Contents {
        left: u64,
        padding: u64,
    },
    /// Padding after the contents of a file: bytes left.
    Padding(u64),
    End,
}

/// Meaning of the eight bytes at the start of a token.
enum Head {
    /// Bytes of a token, and bytes of it with its length and padding.
    Token {
        length: usize,
        whole: usize,
    },
    /// Size of a file.
    Size(u64),
    ErrorFrame,
}

impl Parser {
    /// Creates a parser of a NAR of at most `limit` bytes: the size that its path info or narinfo has, or `u64::MAX`.
    ///
    /// A larger NAR fails as soon as a length in it exceeds the limit. The limit also resolves an ambiguity, since a file
    /// may have the size that the tag of an error is as a number (1 668 838 512): in place of a size it is a size if such
    /// a file fits into the NAR. If it was an error after all, the NAR is truncated or its hash differs.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { grammar: Grammar::new(), inside: Inside::Token, partial: Vec::new(), offset: 0, limit }
    }

    /// Parses the next piece of the stream, and calls `visit` for each event in it.
    ///
    /// Must not be called again after an error, [`Feed::Finished`] or [`Feed::ErrorFrame`].
    pub fn feed(&mut self, input: &[u8], visit: &mut impl FnMut(Event<'_>)) -> Result<Feed, NarError> {
        let mut rest = input;
        loop {
            match self.inside {
                Inside::Token | Inside::Size => match self.token(&mut rest, visit)? {
                    Some(Head::ErrorFrame) => {
                        return Ok(Feed::ErrorFrame { consumed: input.len() - rest.len() });
                    }
                    Some(_) => {}
                    None => return Ok(Feed::More),
                },
                Inside::Contents { left, padding } => {
                    let passed = take(&mut rest, left).len() as u64;
                    self.offset += passed;
                    if passed < left {
                        self.inside = Inside::Contents { left: left - passed, padding };
                        return Ok(Feed::More);
                    }
                    self.inside = Inside::Padding(padding);
                }
                Inside::Padding(left) => {
                    let padding = take(&mut rest, left);
                    check_padding(padding, self.offset, CONTENTS)?;
                    let passed = padding.len() as u64;
                    self.offset += passed;
                    if passed < left {
                        self.inside = Inside::Padding(left - passed);
                        return Ok(Feed::More);
                    }
                    self.inside = Inside::Token;
                }
                Inside::End => {
                    return Ok(Feed::Finished { consumed: input.len() - rest.len() });
                }
            }
        }
    }

    /// Returns the number of bytes that were parsed, without an incomplete token.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns whether the NAR is complete.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.inside, Inside::End)
    }

    /// Consumes one token, or the size of a file, from `rest`. Returns `None` if the rest of it is in the next input.
    fn token(&mut self, rest: &mut &[u8], visit: &mut impl FnMut(Event<'_>)) -> Result<Option<Head>, NarError> {
        if self.partial.is_empty() {
            if let Some(head) = rest.first_chunk() {
                let head = self.measure(*head)?;
                let whole = head.whole();
                if rest.len() >= whole {
                    let token = take(rest, whole as u64);
                    self.apply(&head, token, visit)?;
                    return Ok(Some(head));
                }
            }
        }
        // Incomplete: buffered in `partial`, first the length, then the rest.
        if !self.gather(rest, WORD) {
            return Ok(None);
        }
        let mut word = [0; WORD];
        word.copy_from_slice(&self.partial[..WORD]);
        let head = self.measure(word)?;
        if !self.gather(rest, head.whole()) {
            return Ok(None);
        }
        let mut token = std::mem::take(&mut self.partial);
        self.apply(&head, &token, visit)?;
        token.clear();
        self.partial = token;
        Ok(Some(head))
    }

    /// Interprets the first eight bytes of a token.
    fn measure(&self, word: [u8; WORD]) -> Result<Head, NarError> {
        let length = u64::from_le_bytes(word);
        let is_size = matches!(self.inside, Inside::Size);
        let room = self.limit - self.offset;
        // The length itself, the bytes and the padding.
        let fits = padded(length).and_then(|padded| padded.checked_add(WORD as u64)).is_some_and(|whole| whole <= room);
        if length == ERROR_TAG && !(is_size && fits) {
            return Ok(Head::ErrorFrame);
        }

        let offset = self.offset;
        let field = || {
            if is_size { CONTENTS } else { self.grammar.expected() }
        };
        let past_end = || NarError::PastEnd { offset, field: field(), length, limit: self.limit };
        if is_size {
            return if fits { Ok(Head::Size(length)) } else { Err(past_end()) };
        }
        let max = self.grammar.longest();
        match usize::try_from(length) {
            Ok(length) if length <= max && fits => {
                Ok(Head::Token { length, whole: WORD + length.next_multiple_of(WORD) })
            }
            Ok(length) if length <= max => Err(past_end()),
            _ => Err(NarError::Length { offset, field: field(), length, max: max as u64 }),
        }
    }

    /// Applies a complete token, which `token` has with its length and padding.
    fn apply(&mut self, head: &Head, token: &[u8], visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        self.inside = match *head {
            Head::ErrorFrame => return Ok(()),
            Head::Size(size) => {
                self.grammar.contents(size, self.offset + WORD as u64, visit);
                Inside::Contents { left: size, padding: size.wrapping_neg() % WORD as u64 }
            }
            Head::Token { length, .. } => {
                let (bytes, padding) = token[WORD..].split_at(length);
                check_padding(padding, self.offset + (WORD + length) as u64, self.grammar.expected())?;
                match self.grammar.accept(bytes, self.offset, visit)? {
                    Next::Token => Inside::Token,
                    Next::Contents => Inside::Size,
                    Next::End => Inside::End,
                }
            }
        };
        self.offset += token.len() as u64;
        Ok(())
    }

    /// Fills `partial` up to `wanted` bytes from `rest`. Returns whether there were enough.
    fn gather(&mut self, rest: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.partial.len());
        let taken = take(rest, missing as u64);
        self.partial.extend_from_slice(taken);
        taken.len() == missing
    }
}

impl Head {
    /// Returns the number of bytes that [`Parser::apply`] needs.
    fn whole(&self) -> usize {
        match *self {
            Head::Token { whole, .. } => whole,
            Head::Size(_) | Head::ErrorFrame => WORD,
        }
    }
}

/// Consumes up to `count` bytes of `rest`.
fn take<'a>(rest: &mut &'a [u8], count: u64) -> &'a [u8] {
    let count = usize::try_from(count).map_or(rest.len(), |count| count.min(rest.len()));
    let (taken, after) = rest.split_at(count);
    *rest = after;
    taken
}

/// Returns `length` and the padding after it.
fn padded(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(WORD as u64)
}

/// Checks the padding of `field`, which starts at `offset`.
fn check_padding(padding: &[u8], offset: u64, field: &'static str) -> Result<(), NarError> {
    match padding.iter().zip(offset..).find(|&(&byte, _)| byte != 0) {
        Some((_, offset)) => Err(NarError::Padding { offset, field }),
        None => Ok(()),
    }
}

/// Parses a complete NAR, after which no bytes may follow.
pub(super) fn parse(nar: &[u8], visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
    let mut parser = Parser::new(nar.len() as u64);
    let fed = parser.feed(nar, visit)?;
    let offset = parser.offset();
    match fed {
        Feed::Finished { consumed } if consumed == nar.len() => Ok(()),
        Feed::Finished { .. } => Err(NarError::Trailing { offset }),
        Feed::More => Err(NarError::Truncated),
        Feed::ErrorFrame { .. } => Err(NarError::ErrorFrame { offset }),
    }
}
