//! The listing of a NAR as JSON, rendered while it is sent: only one piece is in memory.
//! The body ends cleanly only if the NAR was verified.

use std::io::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use zstd::stream::write::Encoder;

use crate::fairness::Permit;
use crate::nar_cache::HEAD_DELAY;
use crate::store::{ListingRenderer, NarEvents, StoreError};

/// Smallest piece that is sent before the end, in bytes. A chunk of a NAR is rendered into at most seven times its size.
const MIN_PIECE: usize = 32 << 10;

/// Body with a listing.
pub(crate) struct ListingBody {
    /// `None` after the end or an error.
    events: Option<NarEvents>,
    renderer: ListingRenderer,
    encoder: Option<Encoder<'static, Vec<u8>>>,
    /// Text that is ready to be sent.
    piece: Vec<u8>,
    /// Held until the body is dropped.
    permit: Permit,
}

impl ListingBody {
    /// Creates a listing of the NAR with these events, compressed if there is an encoder.
    pub(crate) fn new(events: NarEvents, encoder: Option<Encoder<'static, Vec<u8>>>, permit: Permit) -> Self {
        Self { events: Some(events), renderer: ListingRenderer::default(), encoder, piece: Vec::new(), permit }
    }

    /// Calls `see` with each permit that the body holds.
    pub(crate) fn each_permit(&self, see: &mut dyn FnMut(&Permit)) {
        see(&self.permit);
        if let Some(events) = &self.events {
            see(events.permit());
        }
    }

    /// Waits until the first bytes are there, or all of a short listing, for up to [`HEAD_DELAY`]. An error until then becomes
    /// a status, a later one can only break the body.
    pub(crate) async fn wait_for_start(&mut self) -> Result<(), StoreError> {
        let started = std::future::poll_fn(|context| self.poll_advance(context).map_ok(drop));
        tokio::time::timeout(HEAD_DELAY, started).await.unwrap_or(Ok(()))
    }

    /// Renders the next chunk of the NAR. Returns whether more may follow.
    fn poll_advance(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, StoreError>> {
        let Some(events) = &mut self.events else { return Poll::Ready(Ok(false)) };
        let advanced = ready!(events.poll_next(context, &mut |event| self.renderer.event(event)));
        let advanced = advanced.and_then(|is_more| self.append(is_more).map(|()| is_more));
        if !matches!(advanced, Ok(true)) {
            self.events = None;
        }
        Poll::Ready(advanced)
    }

    /// Moves rendered text into the piece.
    fn append(&mut self, is_more: bool) -> Result<(), StoreError> {
        if !is_more {
            self.renderer.end();
        }
        let mut text = std::mem::take(&mut self.renderer.text);
        let Some(encoder) = &mut self.encoder else {
            self.piece.append(&mut text);
            return Ok(());
        };
        let result = encoder.write_all(&text).and_then(|()| if is_more { Ok(()) } else { encoder.do_finish() });
        self.piece.append(encoder.get_mut());
        result.map_err(|cause| StoreError::file(Path::new("a listing"), &cause))
    }
}

impl Body for ListingBody {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let this = self.get_mut();
        while this.piece.len() < MIN_PIECE && this.events.is_some() {
            match this.poll_advance(context) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending if this.piece.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let piece = std::mem::take(&mut this.piece);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.events.is_none() && self.piece.is_empty()
    }
}

/// Returns the length of a listing in bytes, by rendering it.
pub(crate) async fn length(mut events: NarEvents) -> Result<u64, StoreError> {
    let (mut renderer, mut length) = (ListingRenderer::default(), 0);
    while std::future::poll_fn(|context| events.poll_next(context, &mut |event| renderer.event(event))).await? {
        length += renderer.text.len() as u64;
        renderer.text.clear();
    }
    renderer.end();
    Ok(length + renderer.text.len() as u64)
}
