//! Finds tokens, and the end, of a NAR in a stream that arrives in pieces.
//!
//! Keeps no more than one token that the end of a piece has cut in two; contents of files are
//! passed over where they lie. What the tokens mean is in [`grammar`](super::grammar).

use super::error::NarError;
use super::event::Event;
use super::grammar::{Grammar, Next};

/// nix-daemon writes a NAR without a length in front, and when it cannot go on, an error frame in
/// the middle. The frame starts with this tag (`STDERR_ERROR` in Nix's `worker-protocol.hh`) at a
/// place where a length is due.
const ERROR_TAG: u64 = crate::stderr::ERROR;

/// Every token starts with its length, and is filled up to a multiple of the same.
const WORD: usize = 8;

/// For messages: the one part that is not a token of the grammar.
const CONTENTS: &str = "a file's contents";

/// A streaming reader that checks all of a NAR but its hash.
///
/// The pieces may be cut anywhere: events and errors are the same for any cut.
#[derive(Debug)]
pub struct Parser {
    grammar: Grammar,
    inside: Inside,
    /// The start of a token whose rest has not arrived. At most a length and the longest symlink
    /// target, padded.
    partial: Vec<u8>,
    offset: u64,
    limit: u64,
}

/// What [`Parser::feed`] made of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Feed {
    /// All of the input belongs to the NAR, and there is more to come.
    More,
    /// The NAR is complete.
    Finished {
        /// Bytes of this input that belong to the NAR; those after it are the peer's next words.
        consumed: usize,
    },
    /// In place of a token stands an error frame of nix-daemon. The NAR cannot be completed;
    /// [`Parser::offset`] bytes of it came before the frame.
    ErrorFrame {
        /// Bytes of this input up to and including the frame's tag: its payload starts there. The
        /// tag may have started in an earlier input.
        consumed: usize,
    },
}

#[derive(Debug)]
enum Inside {
    /// Before the length of a token.
    Token,
    /// Before the length of a file's contents.
    Size,
    /// In the contents of a file: bytes left of them, and bytes of padding after them.
    Contents {
        left: u64,
        padding: u64,
    },
    /// In the padding after a file's contents: bytes left.
    Padding(u64),
    End,
}

/// What the eight bytes at a token's start say.
enum Head {
    /// The bytes of a token, and of it with its length and padding.
    Token {
        length: usize,
        whole: usize,
    },
    /// Bytes of a file's contents.
    Size(u64),
    ErrorFrame,
}

impl Parser {
    /// Starts a NAR that has at most `limit` bytes: the size that its path info or narinfo
    /// promises, or `u64::MAX`.
    ///
    /// A NAR that would be longer is refused as soon as a length says so. The limit also decides a
    /// doubt, for a file may have as many bytes as the tag of an error frame says (1 668 838 512):
    /// where the length of contents is due, the tag is taken for a length if the NAR has room for
    /// that file, and then the missing bytes or the hash must tell.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { grammar: Grammar::new(), inside: Inside::Token, partial: Vec::new(), offset: 0, limit }
    }

    /// Reads the next piece of the stream, and calls `visit` for what it holds.
    ///
    /// After an error, [`Feed::Finished`] or [`Feed::ErrorFrame`] there is nothing more to feed.
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

    /// Bytes of the NAR that have been read. A token of which only a part has arrived does not
    /// count yet.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the NAR is complete.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.inside, Inside::End)
    }

    /// Takes one token, or the length of a file's contents, off `rest`; `None` when it goes on in
    /// the next input.
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
        // Cut in two: gathered in `partial`, first the length, then the rest.
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

    /// Decides what a token is by its length.
    fn measure(&self, word: [u8; WORD]) -> Result<Head, NarError> {
        let length = u64::from_le_bytes(word);
        let is_size = matches!(self.inside, Inside::Size);
        let room = self.limit - self.offset;
        // Room for the length itself, the bytes and the padding.
        let fits = padded(length).and_then(|padded| padded.checked_add(WORD as u64)).is_some_and(|whole| whole <= room);
        if length == ERROR_TAG && !(is_size && fits) {
            return Ok(Head::ErrorFrame);
        }

        let offset = self.offset;
        let field = || {
            if is_size { CONTENTS } else { self.grammar.wording() }
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

    /// Goes on after a token, of which `token` is the whole, with length and padding.
    fn apply(&mut self, head: &Head, token: &[u8], visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        self.inside = match *head {
            Head::ErrorFrame => return Ok(()),
            Head::Size(size) => {
                self.grammar.contents(size, self.offset + WORD as u64, visit);
                Inside::Contents { left: size, padding: size.wrapping_neg() % WORD as u64 }
            }
            Head::Token { length, .. } => {
                let (bytes, padding) = token[WORD..].split_at(length);
                check_padding(padding, self.offset + (WORD + length) as u64, self.grammar.wording())?;
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

    /// Fills `partial` up to `wanted` bytes from `rest`, and says whether there were enough.
    fn gather(&mut self, rest: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.partial.len());
        let taken = take(rest, missing as u64);
        self.partial.extend_from_slice(taken);
        taken.len() == missing
    }
}

impl Head {
    /// Bytes to have at hand before going on.
    fn whole(&self) -> usize {
        match *self {
            Head::Token { whole, .. } => whole,
            Head::Size(_) | Head::ErrorFrame => WORD,
        }
    }
}

/// Takes `count` bytes off `rest`, or as many as there are.
fn take<'a>(rest: &mut &'a [u8], count: u64) -> &'a [u8] {
    let count = usize::try_from(count).map_or(rest.len(), |count| count.min(rest.len()));
    let (taken, after) = rest.split_at(count);
    *rest = after;
    taken
}

/// `length` and the padding after it.
fn padded(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(WORD as u64)
}

/// Checks the bytes from `offset` on, which fill up `field`.
fn check_padding(padding: &[u8], offset: u64, field: &'static str) -> Result<(), NarError> {
    match padding.iter().zip(offset..).find(|&(&byte, _)| byte != 0) {
        Some((_, offset)) => Err(NarError::Padding { offset, field }),
        None => Ok(()),
    }
}

/// Parses a NAR that is all there, and nothing besides.
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
