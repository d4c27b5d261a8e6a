//! Garbage collection of the bucket: what a run deletes, and in which order.

mod plan;
#[cfg(test)]
mod tests;
