//! Synchronization among threads: a mutex that ignores poisoning, and a limit on repeated log lines.

mod log_throttle;
mod mutex;

pub(crate) use log_throttle::LogThrottle;
pub(crate) use mutex::Mutex;
