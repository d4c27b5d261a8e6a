//! Shares limited resources among clients: connections, NAR streams, memory, open files and encoders.
//!
//! Owns the one rule for all of them. A [`FairSemaphore`] gives free permits to the waiting client that holds fewest. While
//! somebody waits, it reclaims permits that are idle, then those of the slowest readers; nothing is ever reclaimed while
//! nobody waits. A [`Holder`] tells how its permits are used, a [`ReadRate`] how fast a client reads its response.
//!
//! Leaves to the holders how they give permits up: a body ends in an error, so that its client resumes by a range, and an
//! idle connection is closed as its version of HTTP prescribes.

mod claim;
mod client_id;
mod client_permits;
mod fair_semaphore;
mod holder;
mod read_rate;
mod reclaim;
mod requester;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use client_id::ClientId;
pub(crate) use client_permits::ClientPermits;
pub(crate) use fair_semaphore::{FairSemaphore, Permit};
pub(crate) use holder::{Holder, Usage};
pub(crate) use read_rate::ReadRate;
pub(crate) use requester::Requester;
