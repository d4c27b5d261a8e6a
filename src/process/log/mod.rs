//! The operator's log: to standard error, one line per event, with a `help:` line if there is something to do.
//!
//! Whatever clients, files or the system put into a message, it stays on the line of its event: control characters are
//! escaped for all messages here.

mod escape;
mod filter;
mod recent;
mod start;

pub(crate) use escape::escape_controls;
pub(crate) use recent::{LogLine, RecentLines};
pub(crate) use start::{fatal, start};
