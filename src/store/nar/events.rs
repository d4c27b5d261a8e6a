//! Events of a NAR (its files, directories and symlinks) in NAR order, in bounded memory.
//!
//! A NAR dumped by nix-daemon is parsed as it is read. A NAR read from the store's files is verified first, then its
//! index is walked.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use harmonia_protocol::nar::{Cursor, Event, Layout};

use crate::fairness::Permit;
use crate::store::error::StoreError;
use crate::store::nar::verifying::VerifyingNar;

/// Chunks hashed before yielding to other tasks: a few milliseconds.
const CHUNKS_PER_POLL: usize = 16;
/// Maximal number of events per poll when walking a [`Layout`].
const BATCH: usize = 512;

/// Source of a NAR's events. Dropping it drops the [`VerifyingNar`].
#[derive(Debug)]
pub struct NarEvents {
    nar: VerifyingNar,
    /// Index and position in it, if the NAR is read from files.
    index: Option<(Arc<Layout>, Cursor)>,
    /// Set once the NAR is verified; before, no event of the index is returned.
    is_verified: bool,
}

impl NarEvents {
    /// Wraps a whole NAR that has not been read from.
    pub(crate) fn new(nar: VerifyingNar) -> Self {
        let index = nar.index().map(|layout| (layout, Cursor::default()));
        Self { nar, index, is_verified: false }
    }

    /// Returns the permit that the NAR holds until it is dropped.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.nar.permit()
    }

    /// Passes the next events to `visit` and returns whether more may follow; must not be polled again after an error.
    ///
    /// The events are trustworthy only once this returned `false`: a NAR that is parsed as it is read is verified at
    /// its end.
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

/// Reads the NAR to its end, which verifies it, unless it was verified before.
fn poll_verified(nar: &mut VerifyingNar, context: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
    if nar.is_verified() {
        return Poll::Ready(nar.check_stamp());
    }
    for _ in 0..CHUNKS_PER_POLL {
        if ready!(nar.poll_chunk(context))?.is_none() {
            return Poll::Ready(Ok(()));
        }
    }
    context.waker().wake_by_ref();
    Poll::Pending
}
