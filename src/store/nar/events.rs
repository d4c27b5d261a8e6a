//! What is in a NAR, told in its order up to its proven end, however large it is.
//!
//! A dump is told as it passes. Of a NAR that is read from files the index is there before, and is told when the NAR has
//! been proven.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use harmonia_protocol::nar::{Cursor, Event, Layout};

use crate::fairness::Permit;
use crate::store::error::StoreError;
use crate::store::nar::verifying::VerifyingNar;

/// Pieces of a NAR that are passed over before other tasks have their turn: a few milliseconds of hashing.
const PIECES: usize = 16;
/// Events that are told at once: most in a [`Layout`] have some tens of bytes.
const BATCH: usize = 512;

/// The events of a valid path's NAR. Dropping it does as dropping the [`VerifyingNar`].
#[derive(Debug)]
pub struct NarEvents {
    nar: VerifyingNar,
    /// Of a NAR that is read from files, with the place that has been come to.
    index: Option<(Arc<Layout>, Cursor)>,
    /// Whether that may be told: the NAR is proven.
    is_verified: bool,
}

impl NarEvents {
    /// Of a whole NAR of which nothing has been read.
    pub(crate) fn new(nar: VerifyingNar) -> Self {
        let index = nar.index().map(|layout| (layout, Cursor::default()));
        Self { nar, index, is_verified: false }
    }

    /// What the NAR holds until it is dropped.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.nar.permit()
    }

    /// Tells what comes next; whether there may be more after it. After the end, or an error, there is nothing more. Only the
    /// end says that what was told is true.
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

/// Reads a NAR to its proven end, unless it has been proven before.
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
