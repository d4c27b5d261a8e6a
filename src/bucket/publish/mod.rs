//! Publishing: what is missing in the bucket, in which order it is put, and putting it.

mod batch;
mod cached_nars;
mod kept_uploads;
mod nar_source;
pub(in crate::bucket) mod plan;
mod publisher;
mod put_nar;
#[cfg(test)]
mod tests;
