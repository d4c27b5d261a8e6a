//! Fills: each writes one NAR into the cache, once for all who wait for it.

pub(super) mod fills;
pub(super) mod nar_source;
pub(super) mod progress;
mod writer;

pub use progress::ActiveFill;
