//! Indirect GC roots of pushed paths, which last for `push.keep` since a path was last pushed or asked for.

mod links;
mod task;

pub(crate) use task::Keep;
