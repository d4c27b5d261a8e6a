//! Protection of served paths from the garbage collector, for a time and while their NARs are sent, by GC roots.
//!
//! `protection` is the interface for requests: a served narinfo queues a request for a root without waiting (two atomic
//! loads if the path has one), and a NAR waits briefly for its root. `rooter` sets the roots in a task that owns the
//! connections on which they live.
//!
//! - A path is protected for at least `gc_protection` after it was last served, and at most one and a half times that.
//! - A path that is being sent is protected for as long as that takes: it is rooted again in each new generation.
//! - After a root is set, nix-daemon is queried whether the path is still valid. If not, it is removed from the cache.
//! - Roots whose connection ends are set again on another one, without extending their time.
//! - If roots cannot be set, everything else works as without protection.

pub(super) mod protection;
pub(super) mod root_state;
pub(super) mod rooter;
pub(super) mod shared;
