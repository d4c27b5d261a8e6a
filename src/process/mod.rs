//! The process and its surroundings: log, memory and descriptor limits, service manager, supervised tasks.

pub(crate) mod core_dump;
pub(crate) mod log;
pub(crate) mod malloc;
pub(crate) mod rlimit;
pub(crate) mod supervisor;
pub(crate) mod systemd;
pub(crate) mod unit;
