//! Synchronisation helpers that several modules share.

mod log_throttle;

pub use log_throttle::{LogThrottle, Suppressed};
