//! The access log: a line for each response, to a file or to standard output, which is the journal for a service.
//!
//! Owns the queue between responses and the writer thread. No response waits for the disk: if the queue is full, records are
//! dropped, counted and warned about.

mod error;
mod log;
mod record;
mod writer;

pub(crate) use error::AccessLogError;
pub(crate) use log::AccessLog;
pub(crate) use record::{MAX_REQUEST_ID, Record};
