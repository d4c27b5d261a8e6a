//! A NAR in the form of a zstd file that compresses nothing: one frame of raw blocks (RFC 8878, section 3.1.1.2).
//!
//! Any zstd decoder takes it for the NAR, it costs no more than the NAR itself, and its length is known. It is for URLs of
//! compressed NARs that clients remember for 30 days, where there is no cache of them any more, or one that cannot be used
//! now. Its bytes are not those that an encoder makes, so nobody may resume one by the other.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

use super::body::NarBody;
use crate::store::StoreError;

/// Magic number; a descriptor of a frame without checksum and length; a window of one block.
const HEAD: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
/// Bytes of a block, at the most.
const BLOCK: u64 = 128 << 10;
/// Last or not in the lowest bit, type 0 in the next two, and the length.
const BLOCK_HEAD: usize = 3;

/// The bytes of the file.
pub struct StoredZstd<B = NarBody> {
    nar: B,
    /// Bytes of the NAR that have not been announced in the head of a block.
    unannounced: u64,
    /// Bytes to come of the block that was announced.
    announced: u64,
    /// Of the NAR that were taken and belong to the next block.
    rest: Bytes,
    is_begun: bool,
    /// Bytes to come.
    remaining: u64,
}

impl<B> StoredZstd<B> {
    /// Of a whole NAR of `size` bytes, which is not 0.
    pub const fn new(nar: B, size: u64) -> Self {
        Self { nar, unannounced: size, announced: 0, rest: Bytes::new(), is_begun: false, remaining: length(size) }
    }

    /// The NAR.
    pub(super) const fn nar(&self) -> &B {
        &self.nar
    }

    /// Heads that stand before the next bytes of the NAR.
    fn heads(&mut self) -> Bytes {
        let mut heads = BytesMut::new();
        if !std::mem::replace(&mut self.is_begun, true) {
            heads.extend_from_slice(&HEAD);
        }
        self.announced = self.unannounced.min(BLOCK);
        self.unannounced -= self.announced;
        let head = (self.announced << 3) | u64::from(self.unannounced == 0);
        heads.extend_from_slice(&head.to_le_bytes()[..BLOCK_HEAD]);
        heads.freeze()
    }
}

/// The length of the file of a NAR of `size` bytes.
pub(super) const fn length(size: u64) -> u64 {
    HEAD.len() as u64 + size.div_ceil(BLOCK) * BLOCK_HEAD as u64 + size
}

impl<B: Body<Data = Bytes, Error = StoreError> + Unpin> Body for StoredZstd<B> {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let this = self.get_mut();
        if this.remaining == 0 {
            return Poll::Ready(None);
        }
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.nar).poll_frame(context)) {
                Some(Ok(frame)) => this.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // A NAR ends only when all of its bytes have come.
                None => return Poll::Ready(None),
            }
        }
        let bytes = if this.announced == 0 {
            this.heads()
        } else {
            let taken = usize::try_from(this.announced).unwrap_or(usize::MAX).min(this.rest.len());
            this.announced -= taken as u64;
            this.rest.split_to(taken)
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

    /// A NAR in pieces of this length.
    struct Pieces(Bytes, usize);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = StoreError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
            let length = self.1.min(self.0.len());
            Poll::Ready((length > 0).then(|| Ok(Frame::data(self.0.split_to(length)))))
        }
    }

    fn stored(nar: &[u8], piece: usize) -> Vec<u8> {
        let mut body = StoredZstd::new(Pieces(Bytes::copy_from_slice(nar), piece), nar.len() as u64);
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
        fn any_decoder_takes_it_for_the_nar_and_its_length_is_known(
            size in prop_oneof![1_usize..600_000, Just(1), Just(128 << 10), Just(256 << 10), Just((256 << 10) + 1)],
            piece in 1_usize..300_000,
        ) {
            let nar: Vec<u8> = (0..size).map(|at| ((at * at) >> 3).to_le_bytes()[0]).collect();
            let file = stored(&nar, piece);
            prop_assert_eq!(file.len() as u64, length(size as u64));
            prop_assert!(zstd::stream::decode_all(&file[..]).unwrap() == nar);
            prop_assert!(zstd::stream::decode_all(&file[..file.len() - 1]).is_err());
        }
    }
}
