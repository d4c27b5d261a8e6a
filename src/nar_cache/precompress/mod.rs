//! NARs that are compressed before they are requested.

pub(super) mod queue;
mod run;
