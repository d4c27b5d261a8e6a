//! What several modules need to share state among threads: a mutex, and a limit on repeated log lines.

mod log_throttle;
mod mutex;

pub(crate) use log_throttle::LogThrottle;
pub(crate) use mutex::Mutex;
