//! Notes of one request, for whoever wants to know of a single one what is counted of all.
//!
//! They are taken only within [`taken`], by what the request itself asks, not by tasks that it begins.

use std::cell::Cell;
use std::future::Future;

tokio::task_local! {
    static NOTES: Cell<Notes>;
}

/// Notes of what was counted on behalf of one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notes {
    /// The result of the last question to the memory of path infos.
    pub path_info: Option<&'static str>,
    /// The result of the last question to the cache of compressed NARs.
    pub nar: Option<&'static str>,
    /// The reason of the error that is the response.
    pub reason: Option<&'static str>,
}

/// Runs the work of a request, and returns its notes too.
pub async fn taken<T>(work: impl Future<Output = T>) -> (T, Notes) {
    let noted = async {
        let result = work.await;
        (result, NOTES.get().get())
    };
    NOTES.scope(Cell::default(), noted).await
}

/// Takes a note, if somebody wants to know.
pub(super) fn note(take: impl FnOnce(&mut Notes)) {
    // Elsewhere nobody does.
    let _ = NOTES.try_with(|notes| {
        let mut new = notes.get();
        take(&mut new);
        notes.set(new);
    });
}
