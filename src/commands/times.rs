//! Times for people, relative to now.

use crate::store::unix_time;

/// Renders a time of the past, in seconds since 1970: `3 h ago`.
pub(super) fn ago(time: u64) -> String {
    format!("{} ago", length(unix_time().saturating_sub(time)))
}

/// Renders the time until one in seconds since 1970: `3 d`.
pub(super) fn until(time: u64) -> String {
    length(time.saturating_sub(unix_time()))
}

/// Renders a duration in its largest unit.
fn length(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_one_unit() {
        for (seconds, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (30 * 86_400, "30 d")] {
            assert_eq!(length(seconds), text);
        }
    }
}
