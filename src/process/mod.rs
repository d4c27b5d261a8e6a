//! The process and its surroundings: log, memory and descriptor limits, service manager, supervised tasks.

pub mod core_dump;
pub mod log;
pub mod malloc;
pub mod rlimit;
pub mod supervisor;
pub mod systemd;
pub mod unit;
