//! The lease: paths that were given out stay alive, for a time and while their NARs are being sent.
//!
//! Owns what a request sees of it. [`GcRoots::extend`] is for a path whose narinfo is given out: it costs two loads where
//! the path is rooted already, and else a place in a queue, but never time. [`GcRoots::hold`] is for a NAR: it waits until
//! the root is set, though not for long. The roots are set by `keeper`, in a task of its own, which owns the connections
//! that they live on.
//!
//! - A path lives for at least the lease after it was last given out, and for at most one and a half of it and what the
//!   keeper needs to set a root.
//! - What is being sent lives for as long as that takes, however old its generation is: it is rooted again in each new one.
//! - After a root is set the daemon is asked whether the path is still valid. What is not is forgotten, so that the next
//!   one who asks is told the truth.
//! - Roots whose connection ends are set again on another, with their time as it was; others are not touched.
//! - Without roots everything works as with a lease of 0: whoever is late finds the path gone.

pub(super) mod protection;
pub(super) mod root_state;
pub(super) mod rooter;
pub(super) mod shared;
