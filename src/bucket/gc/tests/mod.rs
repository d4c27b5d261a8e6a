//! Garbage collections and publishers at the same time: their planners in a model, and the steps that they take in the bucket.

mod planners;
mod runs;
mod schedules;
