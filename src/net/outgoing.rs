//! The memory of what is on its way out: chunks of bodies that have left their source, and that the kernel has not taken.
//!
//! Owns the bound on it. One HTTP/2 connection may have 128 responses on their way, each of which keeps hundreds of
//! kilobytes ahead of its client; a client that reads nothing, on as many connections as it may have, would cost gigabytes.
//! So a body reserves memory before it is asked for a chunk, which is free again when the chunk is. A reservation of a body
//! that has nothing is taken back by those who have something; chunks that are not read are, with their connection.

use std::pin::Pin;
use std::sync::{Arc, MutexGuard, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::reading::Reading;
use crate::fairness::ClientId;
use crate::fairness::{FairSemaphore, Holder, Permit, Usage};
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// For all clients together, in bytes: a thousand chunks of a NAR.
const TOTAL: usize = 128 << 20;
/// What no source gives more of at once, but for encoders, which are few.
const CHUNK: u64 = 256 << 10;
/// Memory is counted in these, in bytes.
const GRAIN: u64 = 1 << 10;
/// What is left is a short text, such as a narinfo, which is in memory anyway. In bytes.
const SHORT: u64 = 4 << 10;
/// Bytes that one response of several on a connection is given at once, so that its progress can be seen.
const SLICE: usize = 32 << 10;
/// A reservation that is not used for this long is one of a source that waits for others, not for its disk.
const UNUSED: Duration = Duration::from_millis(200);

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

/// A body whose chunks are counted for a client, and that tells how it is read.
pub(super) struct OutgoingBody<B> {
    body: B,
    memory: Outgoing,
    client: ClientId,
    reading: Arc<Reading>,
    /// For the next chunk.
    reserved: Arc<Reservation>,
    waiting: Option<Pin<Box<dyn Future<Output = Permit> + Send>>>,
    /// What hyper has not been given of the last chunk.
    rest: Bytes,
}

impl<B: Body<Data = Bytes> + Unpin> OutgoingBody<B> {
    pub(super) fn new(body: B, client: ClientId, memory: Outgoing, reading: Arc<Reading>) -> Self {
        Self { body, memory, client, reading, reserved: Arc::default(), waiting: None, rest: Bytes::new() }
    }

    /// Reserves memory for the next chunk, where that is needed.
    fn poll_memory(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let bytes = self.body.size_hint().upper().unwrap_or(CHUNK).min(CHUNK);
        if bytes <= SHORT || self.reserved.is_used() {
            return Poll::Ready(());
        }
        let Outgoing(memory) = &self.memory;
        let at_once = if self.waiting.is_none() { memory.try_acquire(self.client, grains(bytes)) } else { None };
        let permit = if let Some(permit) = at_once {
            permit
        } else {
            let (memory, client) = (memory.clone(), self.client);
            let waiting = self
                .waiting
                .get_or_insert_with(|| Box::pin(async move { memory.acquire(client, grains(bytes)).await }));
            std::task::ready!(waiting.as_mut().poll(cx))
        };
        self.waiting = None;
        self.reserved.fill(permit);
        Poll::Ready(())
    }

    /// What hyper gets of a chunk, which is counted until all of it has left the program.
    fn hand_out(&mut self, mut bytes: Bytes) -> Bytes {
        let permit = self.reserved.take().filter(|_| !bytes.is_empty());
        let is_counted = permit.is_some();
        if let Some(permit) = permit {
            bytes = Bytes::from_owner(Counted::new(bytes, permit, Arc::clone(&self.reading)));
        }
        if self.reading.is_multiplexed() && bytes.len() > SLICE {
            self.rest = bytes.split_off(SLICE);
        }
        // The end of a short text is the end of the reading as well.
        if is_counted || !self.is_end_stream() {
            self.reading.gave(bytes.len());
        }
        bytes
    }
}

impl<B> Body for OutgoingBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.reading.asked();
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(self.hand_out(rest)))));
        }
        if self.poll_memory(cx).is_pending() {
            self.reading.awaited();
            return Poll::Pending;
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.reserved.rest();
            self.reading.awaited();
            return Poll::Pending;
        };
        if frame.is_none() {
            self.reading.gave(0);
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.hand_out(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// Memory for the next chunk of a body, if it has any.
#[derive(Debug, Default)]
struct Reservation(Mutex<Reserved>);

#[derive(Debug, Default)]
struct Reserved {
    permit: Option<Permit>,
    /// Since when the body's source has nothing for it.
    resting: Option<Instant>,
}

impl Reservation {
    fn reserved(&self) -> MutexGuard<'_, Reserved> {
        self.0.lock()
    }

    /// Whether there is one, which is not given up from now on.
    fn is_used(&self) -> bool {
        let mut reserved = self.reserved();
        reserved.resting = None;
        reserved.permit.is_some()
    }

    fn fill(&self, permit: Permit) {
        self.reserved().permit = Some(permit);
    }

    fn take(&self) -> Option<Permit> {
        self.reserved().permit.take()
    }

    /// It is there for others, if it is not used soon.
    fn rest(self: &Arc<Self>) {
        let mut reserved = self.reserved();
        reserved.resting = Some(Instant::now());
        if let Some(permit) = &reserved.permit {
            let weak: Weak<dyn Holder> = Arc::downgrade(self) as _;
            permit.set_holder(weak);
        }
    }
}

impl Holder for Reservation {
    fn usage(&self, now: Instant) -> Usage {
        let resting = self.reserved().resting;
        resting.filter(|since| now.saturating_duration_since(*since) >= UNUSED).map_or(Usage::Busy, Usage::Idle)
    }

    fn reclaim(&self) -> bool {
        let mut reserved = self.reserved();
        let permit = if reserved.resting.is_some() { reserved.permit.take() } else { None };
        drop(reserved);
        permit.is_some()
    }

    fn is_disruptive(&self) -> bool {
        false
    }
}

/// A chunk with its memory.
struct Counted {
    bytes: Bytes,
    // It is free before the reading ends, which may be the end of its connection.
    _permit: Permit,
    reading: Arc<Reading>,
}

impl Counted {
    fn new(bytes: Bytes, mut permit: Permit, reading: Arc<Reading>) -> Self {
        // Of what was taken for the largest chunk that it could be.
        permit.shrink_to(grains(bytes.len() as u64));
        let weak: Weak<dyn Holder> = Arc::downgrade(&reading) as _;
        permit.set_holder(weak);
        reading.keeps(bytes.len());
        Self { bytes, _permit: permit, reading }
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.reading.lets_go(self.bytes.len());
    }
}

#[cfg(test)]
mod tests;
