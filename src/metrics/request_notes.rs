//! Cache results and error reason of a single request, for the access log.
//!
//! They are recorded with the metrics, and only within [`with_notes`]: by the request itself, not by tasks that it spawns.

use std::cell::Cell;
use std::future::Future;

tokio::task_local! {
    static NOTES: Cell<RequestNotes>;
}

/// Events that the metrics recorded for one request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestNotes {
    /// Result of the last path info lookup.
    pub path_info: Option<&'static str>,
    /// Result of the last request to the NAR cache.
    pub nar: Option<&'static str>,
    /// Reason of the error response.
    pub reason: Option<&'static str>,
}

/// Runs `work` for one request, and returns its notes with the result.
pub(crate) async fn with_notes<T>(work: impl Future<Output = T>) -> (T, RequestNotes) {
    let noted = async {
        let result = work.await;
        (result, NOTES.get().get())
    };
    NOTES.scope(Cell::default(), noted).await
}

/// Updates the notes of the current request, if it has any.
pub(super) fn note(update: impl FnOnce(&mut RequestNotes)) {
    let _ = NOTES.try_with(|notes| {
        let mut new = notes.get();
        update(&mut new);
        notes.set(new);
    });
}
