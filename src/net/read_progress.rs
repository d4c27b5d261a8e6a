//! Progress of a client in reading one response: bytes passed to hyper, and which side waits for the other.
//!
//! The client waits for the server while the response's source has no data or waits for memory, and everything handed out
//! before has left the program. Otherwise the client has data to read. On HTTP/1.1 it has read what its end of the connection
//! has acknowledged; on HTTP/2 the connection is shared, so a chunk counts as read when hyper asks for the next one. While the
//! server waits for the body of the request, it is the client's turn, and what it sends counts as what it reads does.

use std::sync::Arc;

use tokio::time::Instant;

use super::deadlines::Activity;
use crate::fairness::{Holder, ReadRate, Usage};
use crate::sync::Mutex;

/// Progress of a request, from its head until the last byte of its response has left the program.
#[derive(Debug)]
pub(super) struct ReadProgress {
    activity: Arc<Activity>,
    /// Whether the connection may have other requests in flight.
    is_multiplexed: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    read_rate: ReadRate,
    /// Bytes of chunks after which hyper has asked for the next one.
    read: u64,
    /// Bytes of the chunk that hyper has.
    last_chunk: usize,
    /// Bytes of counted chunks that have not left the program.
    outstanding: usize,
    /// Whether hyper waits for a chunk.
    is_awaited: bool,
    /// Whether the server waits for the client to send more of the request's body.
    is_upload_awaited: bool,
    /// Bytes of the request's body that were received.
    received: u64,
    /// Whether the client waits for the server.
    is_server_busy: bool,
}

impl ReadProgress {
    /// Records a request on a connection.
    pub(super) fn start(activity: &Arc<Activity>, is_multiplexed: bool) -> Arc<Self> {
        activity.request_started();
        let state = State {
            read_rate: ReadRate::default(),
            read: 0,
            last_chunk: 0,
            outstanding: 0,
            is_awaited: true,
            is_upload_awaited: false,
            received: 0,
            is_server_busy: true,
        };
        Arc::new(Self { activity: Arc::clone(activity), is_multiplexed, state: Mutex::new(state) })
    }

    /// Returns whether the connection may have other requests in flight.
    pub(super) const fn is_multiplexed(&self) -> bool {
        self.is_multiplexed
    }

    /// Records that hyper asks for the next chunk.
    pub(super) fn polled(&self) {
        let mut state = self.state.lock();
        let read = std::mem::take(&mut state.last_chunk);
        state.read += read as u64;
        drop(state);
        if read > 0 {
            self.activity.client_read(read as u64);
        }
    }

    /// Records that there is no chunk for hyper now.
    pub(super) fn pending(&self) {
        self.update(|state| state.is_awaited = true);
    }

    /// Records that hyper was given a chunk of this many bytes.
    pub(super) fn chunk_given(&self, bytes: usize) {
        self.update(|state| {
            state.last_chunk = bytes;
            state.is_awaited = false;
        });
    }

    /// Counts the bytes of a chunk until they leave the program.
    pub(super) fn chunk_counted(&self, bytes: usize) {
        self.update(|state| state.outstanding += bytes);
    }

    /// Records that counted bytes have left the program.
    pub(super) fn chunk_sent(&self, bytes: usize) {
        self.update(|state| state.outstanding = state.outstanding.saturating_sub(bytes));
    }

    /// Records that the server begins or ceases to wait for more of the request's body.
    pub(super) fn upload_awaited(&self, is_awaited: bool) {
        self.update(|state| state.is_upload_awaited = is_awaited);
    }

    /// Records bytes of the request's body.
    pub(super) fn received(&self, bytes: usize) {
        self.update(|state| {
            state.is_upload_awaited = false;
            state.received += bytes as u64;
        });
        self.activity.client_sent(bytes as u64);
    }

    fn update(&self, update: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        update(&mut state);
        let is_server_busy = state.is_awaited && state.outstanding == 0 && !state.is_upload_awaited;
        if is_server_busy == state.is_server_busy {
            return;
        }
        state.is_server_busy = is_server_busy;
        let now = Instant::now();
        if is_server_busy {
            state.read_rate.pause(now);
        } else {
            state.read_rate.resume(now);
        }
        drop(state);
        self.activity.server_busy(is_server_busy);
    }
}

/// Gives up its permits by ending the connection: chunks that hyper has cannot be freed in another way.
impl Holder for ReadProgress {
    fn usage(&self, now: Instant) -> Usage {
        let acknowledged = if self.is_multiplexed { 0 } else { self.activity.acknowledged() };
        let mut state = self.state.lock();
        let read = if self.is_multiplexed { state.read } else { acknowledged };
        let moved = read + state.received;
        state.read_rate.usage(now, moved)
    }

    fn reclaim(&self) -> bool {
        self.activity.cut();
        true
    }
}

impl Drop for ReadProgress {
    fn drop(&mut self) {
        let was_server_busy = self.state.lock().is_server_busy;
        self.activity.request_ended(was_server_busy);
    }
}
