//! Bodies of responses: short ones in memory, files, and NARs and listings of them as they come from the store.
//!
//! A [`NarBody`] knows its length and ends in an error, never cleanly, when the NAR fails: hyper then closes the
//! connection short of the announced length (or without a last chunk), or resets the HTTP/2 stream, and every client
//! sees that as a failure that it can retry.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::file_body::FileBody;
use super::listing_body::ListingBody;
use super::stored_zstd::StoredZstd;
use crate::fairness::Permit;
use crate::nar_cache::{CompressedBody, FillError};
use crate::store::{StoreError, VerifyingNar};

/// Why a body ended early. The client learns only that it did.
pub type BodyError = FillError;

/// The body of a response.
pub enum Body {
    /// Bytes in memory, taken at once.
    Bytes(Bytes),
    /// A NAR, or a part of one.
    Nar(Box<NarBody>),
    /// The compressed form of a NAR, or a part of it.
    Compressed(Box<CompressedBody>),
    /// A NAR in the form of a compressed one.
    Stored(Box<StoredZstd>),
    /// A file, or a text that is rendered while it is read.
    File(Box<FileBody>),
    /// What is in a NAR.
    Listing(Box<ListingBody>),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }

    /// Shows what it holds of what is scarce.
    pub(super) fn each_permit(&self, see: &mut dyn FnMut(&Permit)) {
        match self {
            Self::Bytes(_) | Self::Compressed(_) => {}
            Self::Nar(nar) => see(nar.nar.permit()),
            Self::Stored(nar) => see(nar.nar().nar.permit()),
            Self::File(file) => file.permits().iter().for_each(see),
            Self::Listing(listing) => listing.each_permit(see),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Nar(nar) => Pin::new(&mut **nar).poll_frame(context).map_err(FillError::Store),
            Self::Compressed(nar) => {
                let chunk = ready!(nar.poll_chunk(context));
                Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)).transpose())
            }
            Self::Stored(nar) => Pin::new(&mut **nar).poll_frame(context).map_err(FillError::Store),
            Self::File(file) => Pin::new(&mut **file).poll_frame(context).map_err(FillError::Store),
            Self::Listing(listing) => Pin::new(&mut **listing).poll_frame(context).map_err(FillError::Store),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Nar(nar) => nar.is_end_stream(),
            Self::Compressed(nar) => nar.remaining() == Some(0),
            Self::Stored(nar) => nar.is_end_stream(),
            Self::File(file) => file.is_end_stream(),
            Self::Listing(listing) => listing.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Nar(nar) => nar.size_hint(),
            Self::Compressed(nar) => nar.remaining().map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Stored(nar) => nar.size_hint(),
            Self::File(file) => file.size_hint(),
            Self::Listing(listing) => listing.size_hint(),
        }
    }
}

/// A NAR, or a part of one, from the daemon's dump or the store's files.
pub struct NarBody {
    nar: VerifyingNar,
    /// Bytes before the part that are still to be passed over.
    skip: u64,
    /// Bytes of the part that are still to be sent.
    remaining: u64,
}

impl NarBody {
    /// So many bytes from the whole NAR's byte `first` on, which `nar` has. A daemon's dump is read from its start; a part
    /// of it that reaches the end is proven as the whole is.
    #[must_use]
    pub const fn new(nar: VerifyingNar, first: u64, length: u64) -> Self {
        let skip = first - nar.first();
        Self { nar, skip, remaining: length }
    }
}

impl HttpBody for NarBody {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let this = self.get_mut();
        while this.remaining > 0 {
            let mut bytes = match ready!(this.nar.poll_chunk(context)) {
                Ok(Some(bytes)) => bytes,
                // The store's NAR ends only when all of its bytes have come.
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            let skipped = this.skip.min(bytes.len() as u64);
            this.skip -= skipped;
            bytes.advance(usize::try_from(skipped).unwrap_or(bytes.len()));
            if !bytes.is_empty() {
                bytes.truncate(usize::try_from(this.remaining).unwrap_or(usize::MAX));
                this.remaining -= bytes.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
