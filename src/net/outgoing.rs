//! The memory of what is on its way out: chunks of bodies that have left their source, and that the kernel has not taken.
//!
//! Owns the bound on it. One HTTP/2 connection may have 128 responses on their way, each of which keeps hundreds of
//! kilobytes ahead of its client; a client that reads nothing, on as many connections as it may have, would cost gigabytes.
//! So a body takes its place before it is asked for a chunk, and the place is free again when the chunk is.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::client::Client;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::Metrics;

/// For all clients together, in bytes: a thousand chunks of a NAR.
const TOTAL: usize = 128 << 20;
/// What no source gives more of at once, but for encoders, which are few.
const CHUNK: u64 = 256 << 10;
/// Memory is counted in these, in bytes.
const GRAIN: u64 = 1 << 10;
/// What is left is a short text, such as a narinfo, which is in memory anyway. In bytes.
const SHORT: u64 = 4 << 10;

/// The memory of all bodies.
#[derive(Debug, Clone)]
pub(super) struct Outgoing(FairSemaphore);

impl Outgoing {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(FairSemaphore::new("outgoing_memory", grains(TOTAL as u64), metrics))
    }
}

fn grains(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(GRAIN)).unwrap_or(usize::MAX)
}

/// A body whose chunks are counted for a client.
pub(super) struct OutgoingBody<B> {
    body: B,
    memory: Outgoing,
    client: Client,
    /// For the next chunk.
    place: Option<Permit>,
    waiting: Option<Pin<Box<dyn Future<Output = Permit> + Send>>>,
}

impl<B: Body> OutgoingBody<B> {
    pub(super) const fn new(body: B, client: Client, memory: Outgoing) -> Self {
        Self { body, memory, client, place: None, waiting: None }
    }

    /// Waits for a place for the next chunk, where one is needed.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let bytes = self.body.size_hint().upper().unwrap_or(CHUNK).min(CHUNK);
        if self.place.is_some() || bytes <= SHORT {
            return Poll::Ready(());
        }
        let Outgoing(shares) = &self.memory;
        if self.waiting.is_none() {
            self.place = shares.try_acquire(self.client, grains(bytes));
            if self.place.is_some() {
                return Poll::Ready(());
            }
        }
        let (shares, client) = (shares.clone(), self.client);
        let waiting =
            self.waiting.get_or_insert_with(|| Box::pin(async move { shares.acquire(client, grains(bytes)).await }));
        self.place = Some(ready!(waiting.as_mut().poll(cx)));
        self.waiting = None;
        Poll::Ready(())
    }
}

impl<B> Body for OutgoingBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        ready!(self.poll_place(cx));
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(mut place) = self.place.take() else { return Poll::Ready(frame) };
        let hold = |bytes: Bytes| {
            // Of what was taken for the largest chunk that it could be.
            place.shrink(grains(bytes.len() as u64));
            Bytes::from_owner(Placed { bytes, _place: place })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A chunk with its place.
struct Placed {
    bytes: Bytes,
    _place: Permit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use super::*;

    const PIECE: usize = 128 << 10;

    /// Chunks without end, of which nobody says how many.
    struct Endless(usize);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(vec![7; self.0].into()))))
        }
    }

    fn client(last: u8) -> Client {
        Client::at([192, 0, 2, last].into())
    }

    fn body(length: usize, client: Client, memory: &Outgoing) -> OutgoingBody<Endless> {
        OutgoingBody::new(Endless(length), client, memory.clone())
    }

    /// The next chunk, if it comes at once.
    fn chunk<B: Body<Data = Bytes, Error = Infallible> + Unpin>(body: &mut OutgoingBody<B>) -> Option<Bytes> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    /// Whatever comes at once, of bodies that have given as many chunks as HTTP/2 keeps ahead.
    fn unread(client: Client, memory: &Outgoing) -> Vec<Bytes> {
        let of_one = |_| {
            let mut body = body(PIECE, client, memory);
            [chunk(&mut body), chunk(&mut body)]
        };
        (0..32_768).map(of_one).take_while(|chunks| chunks[0].is_some()).flatten().flatten().collect()
    }

    #[tokio::test]
    async fn everything_comes_back() {
        let memory = Outgoing::new(&Metrics::default());
        for round in 0..3 {
            let held = unread(client(round), &memory);
            // Bodies that wait are given up.
            let waiting: Vec<_> =
                (0..10).map(|_| body(PIECE, client(round), &memory)).map(|mut it| chunk(&mut it)).collect();
            assert!(!held.is_empty() && waiting.iter().all(Option::is_none));
            drop(held);
            assert_eq!((memory.0.free(), memory.0.waiting()), (grains(TOTAL as u64), 0));
        }
    }

    /// A text of a known length.
    struct Text(Option<Bytes>);

    impl Body for Text {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
        }
    }

    #[test]
    fn short_texts_need_no_place_and_others_as_much_as_they_have() {
        let memory = Outgoing::new(&Metrics::default());
        let text = |length: usize| OutgoingBody::new(Text(Some(vec![7; length].into())), client(1), memory.clone());
        let (mut short, mut long) = (text(4096), text(10_000));
        let total = grains(TOTAL as u64);
        let held = chunk(&mut short).unwrap();
        assert_eq!((held.len(), memory.0.free()), (4096, total));
        let held = chunk(&mut long).unwrap();
        assert_eq!((held.len(), memory.0.free()), (10_000, total - 10));
        assert!(chunk(&mut long).is_none());
        assert_eq!(memory.0.free(), total - 10);
    }
}
