//! Limits the memory of response bodies on their way to clients: chunks that have left their source and not the program.
//!
//! One HTTP/2 connection may have 128 responses in flight, each with hundreds of kilobytes buffered ahead of its client. A
//! client that reads nothing, on as many connections as it may have, would cost gigabytes. So a body reserves memory before
//! it is polled for a chunk, and the memory is free again when the chunk is. A reservation of a body without data is reclaimed
//! for bodies that have some; chunks that are not read are reclaimed with their connection.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::read_progress::ReadProgress;
use crate::fairness::ClientId;
use crate::fairness::{FairSemaphore, Holder, Permit, Usage};
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// Budget of all clients together, in bytes: a thousand chunks of a NAR.
const TOTAL: usize = 128 << 20;
/// Largest chunk of any source but encoders, which are few. In bytes.
const CHUNK: u64 = 256 << 10;
/// Unit in which memory is counted, in bytes.
const UNIT: u64 = 1 << 10;
/// Size up to which a body needs no reservation: a short text, such as a narinfo, is in memory anyway. In bytes.
const SHORT: u64 = 4 << 10;
/// Bytes of a chunk given to hyper at once on a connection with several responses, so that progress is visible.
const SLICE: usize = 32 << 10;
/// Time after which an unused reservation counts as idle: its source waits for others, not for its disk.
const IDLE_AFTER: Duration = Duration::from_millis(200);

/// Memory budget of all response bodies. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct SendBudget(FairSemaphore);

impl SendBudget {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(FairSemaphore::new("outgoing_memory", units(TOTAL as u64), metrics))
    }
}

fn units(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX)
}

/// A response body whose chunks count against a client's share of the budget, and that records its progress.
pub(super) struct BudgetedBody<B> {
    body: B,
    budget: SendBudget,
    client: ClientId,
    progress: Arc<ReadProgress>,
    /// Memory for the next chunk.
    reservation: Arc<Reservation>,
    waiting: Option<Pin<Box<dyn Future<Output = Permit> + Send>>>,
    /// Rest of the last chunk, which hyper has not been given.
    rest: Bytes,
}

impl<B: Body<Data = Bytes> + Unpin> BudgetedBody<B> {
    pub(super) fn new(body: B, client: ClientId, budget: SendBudget, progress: Arc<ReadProgress>) -> Self {
        Self { body, budget, client, progress, reservation: Arc::default(), waiting: None, rest: Bytes::new() }
    }

    /// Reserves memory for the next chunk, if it needs any.
    fn poll_memory(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let bytes = self.body.size_hint().upper().unwrap_or(CHUNK).min(CHUNK);
        if bytes <= SHORT || self.reservation.start_use() {
            return Poll::Ready(());
        }
        let SendBudget(memory) = &self.budget;
        let at_once = if self.waiting.is_none() { memory.try_acquire(self.client, units(bytes)) } else { None };
        let permit = if let Some(permit) = at_once {
            permit
        } else {
            let (memory, client) = (memory.clone(), self.client);
            let waiting =
                self.waiting.get_or_insert_with(|| Box::pin(async move { memory.acquire(client, units(bytes)).await }));
            std::task::ready!(waiting.as_mut().poll(cx))
        };
        self.waiting = None;
        self.reservation.set(permit);
        Poll::Ready(())
    }

    /// Returns the part of a chunk that hyper is given. The whole chunk is counted until it has left the program.
    fn give(&mut self, mut bytes: Bytes) -> Bytes {
        let permit = self.reservation.take().filter(|_| !bytes.is_empty());
        let is_counted = permit.is_some();
        if let Some(permit) = permit {
            bytes = Bytes::from_owner(CountedChunk::new(bytes, permit, Arc::clone(&self.progress)));
        }
        if self.progress.is_multiplexed() && bytes.len() > SLICE {
            self.rest = bytes.split_off(SLICE);
        }
        // A short text that ends here ends its request as well.
        if is_counted || !self.is_end_stream() {
            self.progress.chunk_given(bytes.len());
        }
        bytes
    }
}

impl<B> Body for BudgetedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.progress.polled();
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(self.give(rest)))));
        }
        if self.poll_memory(cx).is_pending() {
            self.progress.pending();
            return Poll::Pending;
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.reservation.set_idle();
            self.progress.pending();
            return Poll::Pending;
        };
        if frame.is_none() {
            self.progress.chunk_given(0);
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.give(bytes)))))
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

/// Memory for the next chunk of a body.
#[derive(Debug, Default)]
struct Reservation(Mutex<Reserved>);

#[derive(Debug, Default)]
struct Reserved {
    permit: Option<Permit>,
    /// Time since which the body's source has had no data.
    idle_since: Option<Instant>,
}

impl Reservation {
    /// Marks the memory as in use, so that it is not reclaimed. Returns whether there is any.
    fn start_use(&self) -> bool {
        let mut reserved = self.0.lock();
        reserved.idle_since = None;
        reserved.permit.is_some()
    }

    fn set(&self, permit: Permit) {
        self.0.lock().permit = Some(permit);
    }

    fn take(&self) -> Option<Permit> {
        self.0.lock().permit.take()
    }

    /// Lets the memory be reclaimed if it is not used soon.
    fn set_idle(self: &Arc<Self>) {
        let mut reserved = self.0.lock();
        reserved.idle_since = Some(Instant::now());
        if let Some(permit) = &reserved.permit {
            let weak: Weak<dyn Holder> = Arc::downgrade(self) as _;
            permit.set_holder(weak);
        }
    }
}

impl Holder for Reservation {
    fn usage(&self, now: Instant) -> Usage {
        let idle_since = self.0.lock().idle_since;
        idle_since.filter(|since| now.saturating_duration_since(*since) >= IDLE_AFTER).map_or(Usage::Busy, Usage::Idle)
    }

    fn reclaim(&self) -> bool {
        let mut reserved = self.0.lock();
        let permit = if reserved.idle_since.is_some() { reserved.permit.take() } else { None };
        drop(reserved);
        permit.is_some()
    }

    fn is_disruptive(&self) -> bool {
        false
    }
}

/// A chunk that holds its part of the budget.
struct CountedChunk {
    bytes: Bytes,
    // Released before the progress, whose end may be that of the connection.
    _permit: Permit,
    progress: Arc<ReadProgress>,
}

impl CountedChunk {
    fn new(bytes: Bytes, mut permit: Permit, progress: Arc<ReadProgress>) -> Self {
        // The reservation was for the largest possible chunk.
        permit.shrink_to(units(bytes.len() as u64));
        let weak: Weak<dyn Holder> = Arc::downgrade(&progress) as _;
        permit.set_holder(weak);
        progress.chunk_counted(bytes.len());
        Self { bytes, _permit: permit, progress }
    }
}

impl AsRef<[u8]> for CountedChunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedChunk {
    fn drop(&mut self) {
        self.progress.chunk_sent(self.bytes.len());
    }
}

#[cfg(test)]
mod tests;
