//! Durations with a unit: `30d`, `12h`, `10m`, `90s`.

use std::time::Duration;

/// Letters of units and their lengths in seconds.
const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
/// Upper bound, in seconds: a hundred years. Points in time that are further away overflow elsewhere.
const MAX: u64 = 100 * 365 * 86_400;

/// Error of a text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration\n  help: write a whole number with s, m, h or d for seconds, minutes, hours or days, e.g. \"30d\""
)]
pub(crate) struct DurationError(String);

/// Parses a whole number with a unit, of a hundred years at most.
pub(crate) fn duration(text: &str) -> Result<Duration, DurationError> {
    parse(text).map(Duration::from_secs).ok_or_else(|| DurationError(text.to_owned()))
}

fn parse(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let (_, seconds) = UNITS.iter().find(|(letter, _)| *letter == unit)?;
    let number = text.strip_suffix(unit)?;
    // `u64::from_str` accepts a plus sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(*seconds).filter(|seconds| *seconds <= MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("10m", 600), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "30", "d", "-1d", "+1d", "1.5h", "1 d", "1D", "1w", "36501d", "99999999999999999999d", "1é"] {
            let error = duration(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a duration\n  help: ")), "{error}");
        }
    }
}
