//! Bytes of an object that go on where an answer broke off.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::time::sleep;

use super::unreachable::Unreachable;
use crate::bucket::engine::{BucketError, BucketStore, ObjectBody, Operation, Patience};
use crate::bucket::object_name::ObjectName;
use crate::nar_cache::FileSource;

/// Answers that may break, or fail, one after the other without a byte in between, until the reader fails.
const MAX_FAILURES: u32 = 6;
/// Pause before the second attempt, doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Reader of a range of an object. Its bytes are those that a server sent, in their order and number; nothing else is proven.
pub(super) struct FileReader {
    store: Arc<BucketStore>,
    name: ObjectName,
    /// Size of the whole object, in bytes.
    size: u64,
    /// Bytes that are still to be read.
    range: Range<u64>,
    failures: u32,
    state: State,
}

type Opening = Pin<Box<dyn Future<Output = Result<Option<ObjectBody>, BucketError>> + Send>>;

enum State {
    /// With bytes before the range, which a server sends that cannot send parts.
    Reading(ObjectBody, u64),
    Opening(Opening),
}

impl FileReader {
    /// Opens a range of an object of this size; `None` if there is no such object.
    pub(super) async fn open(
        store: &Arc<BucketStore>,
        name: ObjectName,
        size: u64,
        range: Range<u64>,
    ) -> Result<Option<Self>, Unreachable> {
        let part = Some(range.clone()).filter(|range| *range != (0..size));
        let Some(body) = store.read(&name, part, Patience::Client).await? else { return Ok(None) };
        let state = reading(body, size, range.start);
        Ok(state.map(|state| Self { store: Arc::clone(store), name, size, range, failures: 0, state }))
    }

    /// Opens the rest after a pause, or fails if that was tried often enough.
    fn reopen(&mut self, cause: BucketError) -> io::Result<()> {
        self.failures += 1;
        if self.failures > MAX_FAILURES {
            return Err(io::Error::other(cause));
        }
        tracing::debug!("reading {} again from byte {} on: {cause}", self.name, self.range.start);
        let (store, name, range) = (Arc::clone(&self.store), self.name.clone(), self.range.clone());
        let pause = FIRST_PAUSE * (1 << (self.failures - 1));
        self.state = State::Opening(Box::pin(async move {
            sleep(pause).await;
            store.read(&name, Some(range), Patience::Client).await
        }));
        Ok(())
    }

    fn error(&self, text: &str) -> BucketError {
        BucketError::other(Operation::Get, self.name.to_string(), text)
    }
}

/// Returns the state of reading an object from a byte on, if it has the right size and that byte.
fn reading(body: ObjectBody, size: u64, start: u64) -> Option<State> {
    let before = start.checked_sub(body.range().start).filter(|_| body.size() == size)?;
    Some(State::Reading(body, before))
}

impl FileSource for FileReader {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        while !self.range.is_empty() {
            let broken = match &mut self.state {
                State::Opening(opening) => match ready!(opening.as_mut().poll(context)) {
                    Ok(Some(body)) => {
                        let state = reading(body, self.size, self.range.start);
                        self.state = state.ok_or_else(|| io::Error::other(self.error("it has another size now")))?;
                        continue;
                    }
                    Ok(None) => self.error("it is not there now"),
                    Err(cause) => cause,
                },
                State::Reading(body, before) => match ready!(body.poll_chunk(context)) {
                    Ok(Some(mut bytes)) => {
                        let skipped = (*before).min(bytes.len() as u64);
                        *before -= skipped;
                        bytes.advance(usize::try_from(skipped).unwrap_or(bytes.len()));
                        bytes.truncate(usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX));
                        if bytes.is_empty() {
                            continue;
                        }
                        self.range.start += bytes.len() as u64;
                        self.failures = 0;
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                    Ok(None) => self.error("it ends too early"),
                    Err(cause) => cause,
                },
            };
            self.reopen(broken)?;
        }
        Poll::Ready(Ok(None))
    }
}
