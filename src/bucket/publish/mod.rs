//! Publishing: what is missing in the bucket, in which order it is put, and putting it.

pub(in crate::bucket) mod batch;
mod cached_nars;
mod kept_uploads;
mod nar_source;
pub(in crate::bucket) mod plan;
pub(in crate::bucket) mod publisher;
mod put_nar;
#[cfg(test)]
pub(in crate::bucket) mod tests;

pub(crate) use batch::Publication;
pub(crate) use nar_source::{Chunks, NarSource};
pub(crate) use publisher::Publisher;
