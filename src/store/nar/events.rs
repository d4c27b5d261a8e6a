//! Events of a NAR in its order, up to its verified end, in bounded memory.
//!
//! A dump is parsed as it is read. For files the index exists before, and is visited after the NAR was verified.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use harmonia_protocol::nar::{Cursor, Event, Layout};

use crate::fairness::Permit;
use crate::store::error::StoreError;
use crate::store::nar::verifying::VerifyingNar;

/// Chunks that are hashed before the task yields: a few milliseconds.
const PIECES: usize = 16;
/// Events per poll: most have some tens of bytes.
const BATCH: usize = 512;

/// Events of a valid path's NAR. Dropping it drops the [`VerifyingNar`].
#[derive(Debug)]
pub struct NarEvents {
    nar: VerifyingNar,
    /// Index of a NAR that is read from files, and the position in it.
    index: Option<(Arc<Layout>, Cursor)>,
    /// Whether the NAR is verified, so that the index may be visited.
    is_verified: bool,
}

impl NarEvents {
    /// Wraps a whole NAR of which nothing has been read.
    pub(crate) fn new(nar: VerifyingNar) -> Self {
        let index = nar.index().map(|layout| (layout, Cursor::default()));
        Self { nar, index, is_verified: false }
    }

    /// Returns the permit of the NAR.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.nar.permit()
    }

    /// Visits the next events and returns whether there may be more. They are verified only when this returns `false`.
    /// It must not be polled after that or an error.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<bool, StoreError>> {
        let Some((layout, cursor)) = &mut self.index else {
            let passed = ready!(self.nar.poll_chunk_with(context, visit))?;
            return Poll::Ready(Ok(passed.is_some()));
        };
        if !self.is_verified {
            ready!(poll_verified(&mut self.nar, context))?;
            self.is_verified = true;
        }
        for _ in 0..BATCH {
            match cursor.next(layout) {
                Some(event) => visit(event),
                None => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }
}

/// Reads a NAR to its verified end, unless it was verified before.
fn poll_verified(nar: &mut VerifyingNar, context: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
    if nar.is_verified() {
        return Poll::Ready(nar.check_stamp());
    }
    for _ in 0..PIECES {
        if ready!(nar.poll_chunk(context))?.is_none() {
            return Poll::Ready(Ok(()));
        }
    }
    context.waker().wake_by_ref();
    Poll::Pending
}
