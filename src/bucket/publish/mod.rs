//! Publishing: what is to be published, what of it is missing in the bucket, in which order it is put, and putting it.
//!
//! - `commands`, `served`, `new_paths`: what is to be published; `queue` and its `journal` keep it;
//! - `run`: takes it from the queue, by `closures`; `batches` and `gather` do it in parts;
//! - `plan`, `publisher`, `put_nar`, `put_narinfo`, `series`: put a batch in order, and enter it in the index;
//! - `cache_info`, `host`: objects of the bucket and of this host that are no paths.

pub(in crate::bucket) mod batch;
mod batches;
mod cache_info;
mod cached_nars;
mod closures;
mod commands;
mod faults;
mod gather;
mod host;
mod irreproducible;
mod jobs;
mod journal;
mod kept_uploads;
mod nar_source;
mod new_paths;
mod obstacle;
pub(in crate::bucket) mod plan;
mod presence;
pub(in crate::bucket) mod progress;
pub(in crate::bucket) mod publisher;
pub(in crate::bucket) mod publishing;
mod put_nar;
mod put_narinfo;
mod queue;
mod run;
mod series;
mod state_list;
#[cfg(test)]
pub(in crate::bucket) mod tests;

pub(crate) use batch::Publication;
pub(crate) use nar_source::{Chunks, NarSource};
pub(crate) use publisher::Publisher;
