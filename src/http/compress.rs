//! zstd encoding of bodies, as a content coding (RFC 8878, RFC 9659).
//!
//! Owns the encoder and where it runs; whether a body is encoded is `coding`'s question, and that
//! the settings keep to the window which RFC 9659 allows is the configuration's promise.
//!
//! - The output is a function of the settings, the length and the bytes, never of how the source
//!   cuts them: the encoder is fed units of exactly 256 KiB. The entity tag of the encoded
//!   form is strong, so it must be. Another release of libzstd may write other bytes; [`version`]
//!   belongs into that tag.
//! - The work is done on the blocking threads, one unit at a time. A client that does not read
//!   holds no thread and no permit, only the memory of its body: the encoder, one unit of input
//!   that fills while another is encoded.
//! - A source that fails leaves the frame unfinished and passes its error on.

use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::config::Zstd;
use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use tokio::sync::Semaphore;
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// Input that is encoded in one go: two blocks of zstd, about a millisecond at level 3 and a tenth
/// of a second at 19.
const UNIT: usize = 256 * 1024;

/// Least room in the output for a call of the encoder.
const ROOM: usize = 16 * 1024;

fn parameters(settings: &Zstd) -> impl Iterator<Item = CParameter> + use<> {
    [
        Some(CParameter::CompressionLevel(settings.level)),
        settings.window_log.map(CParameter::WindowLog),
        settings.long_distance_matching.then_some(CParameter::EnableLongDistanceMatching(true)),
    ]
    .into_iter()
    .flatten()
}

/// The release of libzstd, e.g. `1.5.7`: with the settings it determines the encoded bytes.
#[must_use]
pub fn version() -> &'static str {
    zstd::zstd_safe::version_string()
}

/// Encodes a text that is wholly in memory as one frame, on the calling thread, which for more
/// than a few hundred kilobytes must be one that may block.
pub fn compress_small(text: &[u8], settings: &Zstd) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::bulk::Compressor::new(settings.level)?;
    for parameter in parameters(settings) {
        encoder.set_parameter(parameter)?;
    }
    encoder.compress(text)
}

/// Why an encoded body ended early.
#[derive(Debug, thiserror::Error)]
pub enum CompressError<E> {
    /// The body to encode failed.
    #[error(transparent)]
    Source(E),
    /// The encoder failed, e.g. because the body had not the length that was given, or the server
    /// stops.
    #[error("cannot compress a body: {0}")]
    Encoder(io::Error),
}

/// The zstd encoding of the body `B`, itself a body.
///
/// Polled within a tokio runtime. Dropping it gives up the work; a unit that is being encoded is
/// finished unseen and gives its permit back then.
pub struct Compressed<B> {
    source: Source<B>,
    stage: Stage,
    settings: Zstd,
    length: Option<u64>,
    encoders: Arc<Semaphore>,
}

enum Stage {
    /// Waits for a unit; the encoder is made with the first one.
    Idle(Option<Encoder<'static>>),
    /// A unit waits for its permit or is being encoded.
    Busy(Pin<Box<dyn Future<Output = io::Result<Encoded>> + Send>>),
    /// The frame is finished or has failed.
    Done,
}

struct Encoded {
    /// Nothing once the frame is finished.
    encoder: Option<Encoder<'static>>,
    output: Vec<u8>,
}

impl<B> Compressed<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Encodes `body`, of `length` bytes if that is known, which the frame then states.
    ///
    /// Each unit takes a permit of `encoders`, which bounds the threads that encode at one time.
    pub fn new(body: B, length: Option<u64>, settings: Zstd, encoders: Arc<Semaphore>) -> Self {
        Self {
            source: Source { body: Some(body), rest: Bytes::new(), unit: Vec::new() },
            stage: Stage::Idle(None),
            settings,
            length,
            encoders,
        }
    }

    /// The next piece of the frame, never empty; nothing after its end or after an error.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CompressError<B::Error>>>> {
        if matches!(self.stage, Stage::Done) {
            return Poll::Ready(None);
        }
        loop {
            // Reading goes on while a unit is encoded, up to the next full one.
            let unit = self.source.poll_unit(cx);
            if let Poll::Ready(Err(error)) = unit {
                self.stage = Stage::Done;
                return Poll::Ready(Some(Err(CompressError::Source(error))));
            }
            self.stage = match &mut self.stage {
                Stage::Idle(_) if unit.is_pending() => return Poll::Pending,
                Stage::Idle(encoder) => {
                    let encoder = encoder.take();
                    self.encode(encoder)
                }
                Stage::Busy(work) => match ready!(work.as_mut().poll(cx)) {
                    Ok(Encoded { encoder, output }) => {
                        self.stage = encoder.map_or(Stage::Done, |it| Stage::Idle(Some(it)));
                        if !output.is_empty() {
                            return Poll::Ready(Some(Ok(output.into())));
                        }
                        continue;
                    }
                    Err(error) => {
                        self.stage = Stage::Done;
                        return Poll::Ready(Some(Err(CompressError::Encoder(error))));
                    }
                },
                Stage::Done => return Poll::Ready(None),
            };
        }
    }

    fn encode(&mut self, encoder: Option<Encoder<'static>>) -> Stage {
        let (unit, last) = self.source.take_unit();
        let (settings, length) = (self.settings, self.length);
        let encoders = Arc::clone(&self.encoders);
        Stage::Busy(Box::pin(async move {
            let permit = encoders.acquire_owned().await.map_err(io::Error::other)?;
            // The permit goes along: the bound holds even when nobody waits for the result any
            // more.
            let encode = move || {
                let _permit = permit;
                let encoder = match encoder {
                    Some(encoder) => encoder,
                    None => begin(&settings, length)?,
                };
                encode_unit(encoder, &unit, last)
            };
            let work = tokio::task::spawn_blocking(encode);
            work.await.map_err(io::Error::other)?
        }))
    }
}

impl<B> Body for Compressed<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = CompressError<B::Error>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let chunk = ready!(self.poll_chunk(cx));
        Poll::Ready(chunk.map(|it| it.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

fn begin(settings: &Zstd, length: Option<u64>) -> io::Result<Encoder<'static>> {
    let mut encoder = Encoder::new(settings.level)?;
    for parameter in parameters(settings) {
        encoder.set_parameter(parameter)?;
    }
    encoder.set_pledged_src_size(length)?;
    Ok(encoder)
}

fn encode_unit(mut encoder: Encoder<'static>, unit: &[u8], last: bool) -> io::Result<Encoded> {
    let mut output = Vec::with_capacity(zstd::zstd_safe::compress_bound(unit.len()));
    let mut input = InBuffer::around(unit);
    while input.pos() < unit.len() {
        output.reserve(ROOM);
        let written = output.len();
        encoder.run(&mut input, &mut OutBuffer::around_pos(&mut output, written))?;
    }
    let mut unfinished = last;
    while unfinished {
        output.reserve(ROOM);
        let written = output.len();
        let mut room = OutBuffer::around_pos(&mut output, written);
        unfinished = encoder.finish(&mut room, false)? > 0;
    }
    Ok(Encoded { encoder: (!last).then_some(encoder), output })
}

/// The body to encode, cut into units.
struct Source<B> {
    /// Nothing once it has ended.
    body: Option<B>,
    /// What the last chunk has beyond the unit that it filled.
    rest: Bytes,
    /// What is there of the next unit.
    unit: Vec<u8>,
}

impl<B> Source<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Ready when a unit is full or the body has ended.
    fn poll_unit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), B::Error>> {
        loop {
            let taken = self.rest.len().min(UNIT - self.unit.len());
            self.unit.extend_from_slice(&self.rest[..taken]);
            self.rest.advance(taken);
            if self.unit.len() == UNIT {
                return Poll::Ready(Ok(()));
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(()));
            };
            match ready!(Pin::new(body).poll_frame(cx)) {
                // Trailers describe the plain body and have no place after the encoded one.
                Some(frame) => self.rest = frame?.into_data().unwrap_or_default(),
                None => self.body = None,
            }
        }
    }

    /// The unit, and whether it is the last one: that is the only one which is not full.
    fn take_unit(&mut self) -> (Vec<u8>, bool) {
        let last = self.unit.len() < UNIT;
        (mem::take(&mut self.unit), last)
    }
}

#[cfg(test)]
mod tests;
