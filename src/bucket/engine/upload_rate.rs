//! Upper bound of the bandwidth of uploads, shared by all of them.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Time that may be made up for after a pause.
const BURST: Duration = Duration::from_millis(250);

/// Rate in bytes per second. Whoever sends reserves its bytes, and waits for their time.
#[derive(Debug)]
pub(crate) struct UploadRate {
    bytes_per_second: u64,
    /// Time at which all bytes are sent that were reserved so far.
    free: Mutex<Option<Instant>>,
}

impl UploadRate {
    /// Creates a limit of at least one byte per second.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free: Mutex::new(None) }
    }

    /// Reserves the time of so many bytes, and returns when it begins.
    pub(crate) fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let mut free = self.free.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = free.map_or(now, |free| free.max(earliest));
        #[allow(clippy::cast_precision_loss, reason = "bytes of one piece")]
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        *free = Some(begin + time);
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_share_one_rate() {
        let (rate, start) = (UploadRate::new(1_000), Instant::now());
        let begins: Vec<_> = (0..5).map(|_| rate.reserve(500, start).duration_since(start).as_millis()).collect();
        assert_eq!(begins, [0, 500, 1000, 1500, 2000]);
    }

    #[test]
    fn a_pause_is_made_up_for_in_part_only() {
        let (rate, start) = (UploadRate::new(1_000), Instant::now());
        rate.reserve(1_000, start);
        let later = start + Duration::from_secs(60);
        assert_eq!(later.duration_since(rate.reserve(1_000, later)), BURST);
        assert_eq!(rate.reserve(1, later).duration_since(later), Duration::from_millis(750));
    }
}
