//! How a client reads one response: what has been handed out for it, and who waits for whom.
//!
//! The server is at work while the response's source has nothing, or its memory is waited for, and all that was handed out before
//! is on its way. Otherwise the client has something to take. On HTTP/1.1 it has taken what its end of the connection has
//! acknowledged; on HTTP/2 the connection is shared, and what hyper has asked more after counts.

use std::sync::{Arc, MutexGuard};

use tokio::time::Instant;

use super::activity::Activity;
use crate::fairness::{Holder, ReadRate, Usage};
use crate::sync::Mutex;

/// A request, from its head until the last byte of its response has left the program.
#[derive(Debug)]
pub(super) struct Reading {
    activity: Arc<Activity>,
    /// Whether there may be others on the connection.
    is_multiplexed: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    read_rate: ReadRate,
    /// Bytes that hyper has asked more after.
    taken: u64,
    /// Bytes that it was given last.
    last: usize,
    /// Bytes of counted chunks that have not left the program.
    outstanding: usize,
    /// Whether hyper waits for a chunk.
    is_awaited: bool,
    is_owed: bool,
}

impl Reading {
    /// A request has come on this connection.
    pub(super) fn begin(activity: &Arc<Activity>, is_multiplexed: bool) -> Arc<Self> {
        activity.begin();
        let state = State {
            read_rate: ReadRate::default(),
            taken: 0,
            last: 0,
            outstanding: 0,
            is_awaited: true,
            is_owed: true,
        };
        Arc::new(Self { activity: Arc::clone(activity), is_multiplexed, state: Mutex::new(state) })
    }

    /// Whether its connection may have others.
    pub(super) const fn is_multiplexed(&self) -> bool {
        self.is_multiplexed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// hyper asks for more.
    pub(super) fn asked(&self) {
        let mut state = self.state();
        let taken = std::mem::take(&mut state.last);
        state.taken += taken as u64;
        drop(state);
        if taken > 0 {
            self.activity.took(taken as u64);
        }
    }

    /// There is nothing for hyper now.
    pub(super) fn awaited(&self) {
        self.change(|state| state.is_awaited = true);
    }

    /// hyper was given so many bytes.
    pub(super) fn gave(&self, bytes: usize) {
        self.change(|state| {
            state.last = bytes;
            state.is_awaited = false;
        });
    }

    /// So many bytes of a chunk are counted until they leave the program.
    pub(super) fn keeps(&self, bytes: usize) {
        self.change(|state| state.outstanding += bytes);
    }

    /// They have left it.
    pub(super) fn lets_go(&self, bytes: usize) {
        self.change(|state| state.outstanding = state.outstanding.saturating_sub(bytes));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let is_owed = state.is_awaited && state.outstanding == 0;
        if is_owed == state.is_owed {
            return;
        }
        state.is_owed = is_owed;
        let now = Instant::now();
        if is_owed {
            state.read_rate.pause(now);
        } else {
            state.read_rate.resume(now);
        }
        drop(state);
        self.activity.owe(is_owed);
    }
}

/// What it holds is given up by ending the connection: what hyper has of a response cannot be had back in another way.
impl Holder for Reading {
    fn usage(&self, now: Instant) -> Usage {
        let acknowledged = if self.is_multiplexed { 0 } else { self.activity.acknowledged() };
        let mut state = self.state();
        let taken = if self.is_multiplexed { state.taken } else { acknowledged };
        state.read_rate.usage(now, taken)
    }

    fn reclaim(&self) -> bool {
        self.activity.cut();
        true
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let was_owed = self.state().is_owed;
        self.activity.end(was_owed);
    }
}
