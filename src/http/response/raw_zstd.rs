//! A zstd file that does not compress a NAR: one frame of raw blocks (RFC 8878, section 3.1.1.2).
//!
//! Any zstd decoder reads the NAR from it, it costs no more than the NAR itself, and its length is known. Sent for URLs of
//! compressed NARs, which clients cache for 30 days, after the NAR cache was disabled or while it fails. Its bytes are not
//! those of an encoder, so that a client must not resume one with the other.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

use crate::http::response::nar_body::NarBody;
use crate::store::StoreError;

/// Magic number, descriptor of a frame without checksum and length, and window of one block.
const FRAME_HEADER: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
/// Upper bound of a block, in bytes.
const BLOCK: u64 = 128 << 10;
/// Length of a block header: the lowest bit marks the last block, the next two are the type (0: raw), then the length.
const BLOCK_HEADER: usize = 3;

/// Body with such a file.
pub(crate) struct RawZstd<B = NarBody> {
    nar: B,
    /// Bytes of the NAR in later blocks.
    unannounced: u64,
    /// Bytes of the current block that are still to be sent.
    announced: u64,
    /// Bytes of the NAR that were read and not sent.
    buffered: Bytes,
    has_started: bool,
    /// Bytes that are still to be sent.
    remaining: u64,
}

impl<B> RawZstd<B> {
    /// Creates the file of a whole NAR of `size` bytes, which must not be 0.
    pub(crate) const fn new(nar: B, size: u64) -> Self {
        Self {
            nar,
            unannounced: size,
            announced: 0,
            buffered: Bytes::new(),
            has_started: false,
            remaining: length(size),
        }
    }

    /// Returns the NAR.
    pub(crate) const fn nar(&self) -> &B {
        &self.nar
    }

    /// Starts the next block. Returns its header, after that of the frame if it is the first.
    fn start_block(&mut self) -> Bytes {
        let mut headers = BytesMut::new();
        if !std::mem::replace(&mut self.has_started, true) {
            headers.extend_from_slice(&FRAME_HEADER);
        }
        self.announced = self.unannounced.min(BLOCK);
        self.unannounced -= self.announced;
        let header = (self.announced << 3) | u64::from(self.unannounced == 0);
        headers.extend_from_slice(&header.to_le_bytes()[..BLOCK_HEADER]);
        headers.freeze()
    }
}

/// Returns the length of the file of a NAR of `size` bytes.
pub(crate) const fn length(size: u64) -> u64 {
    FRAME_HEADER.len() as u64 + size.div_ceil(BLOCK) * BLOCK_HEADER as u64 + size
}

impl<B: Body<Data = Bytes, Error = StoreError> + Unpin> Body for RawZstd<B> {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let this = self.get_mut();
        if this.remaining == 0 {
            return Poll::Ready(None);
        }
        if this.buffered.is_empty() {
            match ready!(Pin::new(&mut this.nar).poll_frame(context)) {
                Some(Ok(frame)) => this.buffered = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // A NAR ends only after all of its bytes.
                None => return Poll::Ready(None),
            }
        }
        let bytes = if this.announced == 0 {
            this.start_block()
        } else {
            let taken = usize::try_from(this.announced).unwrap_or(usize::MAX).min(this.buffered.len());
            this.announced -= taken as u64;
            this.buffered.split_to(taken)
        };
        this.remaining -= bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// A NAR that is read in pieces of this length.
    struct Pieces(Bytes, usize);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = StoreError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
            let length = self.1.min(self.0.len());
            Poll::Ready((length > 0).then(|| Ok(Frame::data(self.0.split_to(length)))))
        }
    }

    fn raw(nar: &[u8], piece: usize) -> Vec<u8> {
        let mut body = RawZstd::new(Pieces(Bytes::copy_from_slice(nar), piece), nar.len() as u64);
        let mut file = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()))
        {
            file.extend_from_slice(&frame.into_data().unwrap());
        }
        assert!(body.is_end_stream());
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_decoder_reads_the_nar_and_the_length_is_known(
            size in prop_oneof![1_usize..600_000, Just(1), Just(128 << 10), Just(256 << 10), Just((256 << 10) + 1)],
            piece in 1_usize..300_000,
        ) {
            let nar: Vec<u8> = (0..size).map(|at| ((at * at) >> 3).to_le_bytes()[0]).collect();
            let file = raw(&nar, piece);
            prop_assert_eq!(file.len() as u64, length(size as u64));
            prop_assert!(zstd::stream::decode_all(&file[..]).unwrap() == nar);
            prop_assert!(zstd::stream::decode_all(&file[..file.len() - 1]).is_err());
        }
    }
}
