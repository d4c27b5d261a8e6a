//! Garbage collection of the bucket: what a run deletes, in which order, and what publishers have to know of it.

mod collector;
mod compaction;
mod contents;
mod error;
pub(in crate::bucket) mod hash_list;
mod keep;
mod lease;
mod pin_file;
mod pins;
pub(in crate::bucket) mod plan;
mod progress;
mod runs;
mod saved_narinfos;
mod stored_plan;
#[cfg(test)]
mod tests;
mod timing;

pub(crate) use collector::{Ages, Collector, Report as GcReport};
pub(in crate::bucket) use compaction::Merged;
pub(crate) use error::GcError;
pub(in crate::bucket) use lease::holder;
pub(crate) use pin_file::PinFile;
pub(crate) use pins::{PinName as BucketPinName, PinNameError as BucketPinNameError, pin, pins, unpin};
pub(crate) use progress::{Progress as GcProgress, Step as GcStep};
pub(crate) use runs::{Condemned, Runs};
pub(crate) use saved_narinfos::undo as undo_gc;
pub(in crate::bucket) use stored_plan::StoredPlan;
pub(crate) use timing::PUT_TIME;
