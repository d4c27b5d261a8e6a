//! Durations and percentages for people.

use crate::store::unix_time;

/// Renders a duration in its two largest units: `12 s`, `3 min`, `3 h 12 min`, `12 d 3 h`.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, 1..=9) => format!("{minutes} min {} s", seconds % 60),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Returns the seconds since a time in seconds of the Unix epoch.
pub(super) fn seconds_since(time: u64) -> u64 {
    unix_time().saturating_sub(time)
}

/// Returns the seconds until a time in seconds of the Unix epoch.
pub(super) fn seconds_until(time: u64) -> u64 {
    time.saturating_sub(unix_time())
}

/// Renders a part of a whole: `42 %`, or `-` of nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    if whole == 0 { "-".to_owned() } else { format!("{percent} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (600, "10 min"),
            (3599, "59 min"),
            (3600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!([percent(0, 0), percent(1, 3), percent(3, 3)], ["-", "33 %", "100 %"]);
    }
}
