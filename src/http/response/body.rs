//! Bodies of responses.
//!
//! One that fails ends in an error, never cleanly, so that its client retries or resumes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::fairness::Permit;
use crate::http::response::file_body::FileBody;
use crate::http::response::listing_body::ListingBody;
use crate::http::response::nar_body::NarBody;
use crate::http::response::raw_zstd::RawZstd;
use crate::http::response::stream_body::StreamBody;
use crate::nar_cache::{CompressedBody, FillError};

/// Error that ends a body early. The client learns only that it ended.
pub(crate) type BodyError = FillError;

/// A response of a handler.
pub(crate) type Response = hyper::Response<Body>;

/// Body of a response.
pub(crate) enum Body {
    /// Bytes in memory, sent as one frame.
    Bytes(Bytes),
    /// A NAR, or a range of one.
    Nar(Box<NarBody>),
    /// A compressed NAR, or a range of one.
    Compressed(Box<CompressedBody>),
    /// A NAR in a zstd file that does not compress it.
    Raw(Box<RawZstd>),
    /// A file, or a text that is rendered while it is sent.
    File(Box<FileBody>),
    /// The listing of a NAR, rendered while it is sent.
    Listing(Box<ListingBody>),
    /// A file that is read from elsewhere while it is sent, or the NAR in it.
    Stream(Box<StreamBody>),
}

impl Body {
    /// Returns a body without bytes.
    #[must_use]
    pub(crate) const fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }

    /// Calls `see` with each permit that the body holds.
    pub(crate) fn each_permit(&self, see: &mut dyn FnMut(&Permit)) {
        match self {
            Self::Bytes(_) | Self::Compressed(_) => {}
            Self::Nar(nar) => see(nar.permit()),
            Self::Raw(nar) => see(nar.nar().permit()),
            Self::File(file) => file.permits().iter().for_each(see),
            Self::Listing(listing) => listing.each_permit(see),
            Self::Stream(stream) => stream.permits().iter().for_each(see),
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
            Self::Raw(nar) => Pin::new(&mut **nar).poll_frame(context).map_err(FillError::Store),
            Self::File(file) => Pin::new(&mut **file).poll_frame(context).map_err(FillError::Store),
            Self::Listing(listing) => Pin::new(&mut **listing).poll_frame(context).map_err(FillError::Store),
            Self::Stream(stream) => Pin::new(&mut **stream).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Nar(nar) => nar.is_end_stream(),
            Self::Compressed(nar) => nar.remaining() == Some(0),
            Self::Raw(nar) => nar.is_end_stream(),
            Self::File(file) => file.is_end_stream(),
            Self::Listing(listing) => listing.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Nar(nar) => nar.size_hint(),
            Self::Compressed(nar) => nar.remaining().map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Raw(nar) => nar.size_hint(),
            Self::File(file) => file.size_hint(),
            Self::Listing(listing) => listing.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}
