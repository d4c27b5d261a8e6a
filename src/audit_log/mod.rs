//! The audit log: who read what, who was refused, and who pushed, as lines of JSON to a file or to the program's log.
//!
//! Owns the queue between responses and the writer thread, the lines, and what happens if they cannot be written: no response waits
//! for the disk, but the operator may have requests refused that could not be recorded. Leaves to `http` which requests are
//! recorded.
//!
//! Reads of the same path by the same principal from the same address within a minute are one line; so are refusals that are alike.
//! No line holds a secret: nothing of a header or a query gets here.

mod coalesce;
mod error;
mod event;
mod line;
mod log;
mod shared;
mod writer;

pub(crate) use error::AuditLogError;
pub(crate) use event::{AuditedRequest, Object};
pub(crate) use log::AuditLog;
