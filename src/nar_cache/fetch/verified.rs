//! A file, or the NAR in it, that is hashed while it passes. Its end comes only if size and hash are right.
//!
//! A range that reaches the end is verified like the whole, and is therefore read from the start. One that does not is sent before
//! the whole could be verified.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use harmonia_protocol::hash::NarHash;
use ring::digest;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use super::source::FileSource;
use crate::nar_cache::disk::entry::FileInfo;
use crate::nar_cache::encode::encoding::FRAME_SIZE;

/// Bytes that are decoded at once.
const PIECE: usize = 128 << 10;
/// Pieces before the range that are passed over before other tasks get their turn.
const TURN: usize = 16;

/// Bytes whose size and hash are known before.
pub(crate) struct VerifiedStream {
    source: Box<dyn FileSource>,
    /// `None` for the bytes of the source as they are.
    decoder: Option<FrameDecoder>,
    sha256: digest::Context,
    expected: [u8; 32],
    /// Bytes that have to come yet.
    left: u64,
    /// Bytes of them that are before the range, and in it.
    skip: u64,
    remaining: u64,
    /// Last piece, until the next one or the end.
    withheld: Option<Bytes>,
}

impl VerifiedStream {
    /// Creates a stream of a range of a file, which the source has from its first byte on.
    pub(crate) fn file(source: Box<dyn FileSource>, info: FileInfo, range: &Range<u64>) -> Self {
        Self::new(source, None, info.sha256, info.size, range)
    }

    /// Creates a stream of a range of a NAR, which the source has from its first byte on.
    pub(crate) fn nar(source: Box<dyn FileSource>, nar_hash: &NarHash, nar_size: u64, range: &Range<u64>) -> Self {
        Self::new(source, None, *nar_hash.as_bytes(), nar_size, range)
    }

    /// Creates a stream of a range of the NAR in a zstd file, which the source has from its first byte on. Takes memory of the
    /// size of the NAR, and of [`FRAME_SIZE`] at most.
    pub(crate) fn zstd_nar(
        source: Box<dyn FileSource>,
        nar_hash: &NarHash,
        nar_size: u64,
        range: &Range<u64>,
    ) -> io::Result<Self> {
        let decoder = FrameDecoder::new()?;
        Ok(Self::new(source, Some(decoder), *nar_hash.as_bytes(), nar_size, range))
    }

    fn new(
        source: Box<dyn FileSource>,
        decoder: Option<FrameDecoder>,
        expected: [u8; 32],
        size: u64,
        range: &Range<u64>,
    ) -> Self {
        let sha256 = digest::Context::new(&digest::SHA256);
        let (skip, remaining) = (range.start, range.end - range.start);
        Self { source, decoder, sha256, expected, left: size, skip, remaining, withheld: None }
    }

    /// Returns the next bytes as they were decoded; `None` at the end, if all came and have the hash.
    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let piece = match &mut self.decoder {
            None => ready!(self.source.poll_piece(context))?,
            Some(decoder) => ready!(decoder.poll_piece(self.source.as_mut(), context))?,
        };
        let Some(piece) = piece else {
            let sha256 = std::mem::replace(&mut self.sha256, digest::Context::new(&digest::SHA256)).finish();
            return Poll::Ready(match self.left {
                0 if sha256.as_ref() == self.expected => Ok(None),
                0 => Err(invalid("it has another hash")),
                _ => Err(invalid("it ends too early")),
            });
        };
        self.left = self.left.checked_sub(piece.len() as u64).ok_or_else(|| invalid("it is longer than expected"))?;
        self.sha256.update(&piece);
        Poll::Ready(Ok(Some(piece)))
    }
}

impl FileSource for VerifiedStream {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let mut skipped = 0;
        while self.remaining > 0 {
            let Some(mut piece) = ready!(self.poll_all(context))? else {
                let last = self.withheld.take();
                self.remaining = 0;
                return Poll::Ready(Ok(last));
            };
            let before = self.skip.min(piece.len() as u64);
            self.skip -= before;
            piece.advance(usize::try_from(before).unwrap_or(piece.len()));
            if piece.is_empty() {
                skipped += 1;
                if skipped == TURN {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                continue;
            }
            let held = self.withheld.as_ref().map_or(0, Bytes::len) as u64;
            piece.truncate(usize::try_from(self.remaining - held).unwrap_or(usize::MAX));
            let is_last = held + piece.len() as u64 == self.remaining;
            // A range that ends before the end of all is complete.
            let next = if is_last && self.left > 0 && held == 0 { Some(piece) } else { self.withheld.replace(piece) };
            if let Some(next) = next {
                self.remaining -= next.len() as u64;
                return Poll::Ready(Ok(Some(next)));
            }
        }
        Poll::Ready(Ok(None))
    }
}

/// Decoder of the zstd frames of a file, one after the other.
struct FrameDecoder {
    decoder: Decoder<'static>,
    input: Bytes,
    /// Whether the last frame that has begun has ended.
    is_between: bool,
    /// Whether more output may come without more input.
    is_full: bool,
}

impl FrameDecoder {
    fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(FRAME_SIZE.ilog2()))?;
        Ok(Self { decoder, input: Bytes::new(), is_between: true, is_full: false })
    }

    fn poll_piece(
        &mut self,
        source: &mut dyn FileSource,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if self.input.is_empty() && !self.is_full {
                match ready!(source.poll_piece(context))? {
                    Some(input) => self.input = input,
                    None if self.is_between => return Poll::Ready(Ok(None)),
                    None => return Poll::Ready(Err(invalid("a frame does not end"))),
                }
                continue;
            }
            let mut piece = vec![0; PIECE];
            let mut output = OutBuffer::around(&mut piece[..]);
            let mut input = InBuffer::around(&self.input);
            let more = self.decoder.run(&mut input, &mut output)?;
            let (consumed, written) = (input.pos(), output.pos());
            self.input.advance(consumed);
            self.is_between = more == 0;
            self.is_full = more != 0 && written == PIECE;
            if self.is_between {
                self.decoder.reinit()?;
            } else if consumed == 0 && written == 0 && !self.input.is_empty() {
                return Poll::Ready(Err(invalid("malformed zstd frame")));
            }
            if written > 0 {
                piece.truncate(written);
                return Poll::Ready(Ok(Some(piece.into())));
            }
        }
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
