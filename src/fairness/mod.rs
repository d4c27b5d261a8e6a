//! Shares what is scarce among clients: whoever waits is served, and what is idle or slowest is taken back for it.
//!
//! Owns the one rule for connections, NAR streams, memory, open files and encoders. A [`FairSemaphore`] gives what is free
//! to the waiting client that holds least. While somebody waits, it takes back what a client holds without using it, and
//! what a client uses slowest ([`Demand`]); nothing is ever taken back while nobody waits. What a request holds is known by its
//! [`Holder`], how fast a client takes its response by a [`Pace`].
//!
//! Leaves to the holders how they give up: a body ends in an error, so that its client resumes by a range, and an idle
//! connection is closed in the way of its version of HTTP.

mod client_id;
mod demand;
mod holder;
mod pace;
mod reader;
mod semaphore;

pub use client_id::ClientId;
pub use demand::Demand;
pub use holder::{Holder, Usage};
pub use pace::Pace;
pub use reader::Reader;
pub use semaphore::{ClientShare, FairSemaphore, Permit};
