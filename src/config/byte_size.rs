//! Sizes in bytes, with an optional unit: `10 GiB`, `512M`, `4096`.

use std::fmt;
use std::str::FromStr;

/// Letters of units and their powers of two. systemd and nginx use the same.
const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Creates a size from a number of bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Creates a size from a number of mebibytes.
    #[must_use]
    pub const fn mebibytes(count: u32) -> Self {
        Self((count as u64) << 20)
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Error of a text that is not a size, or one of 2^64 bytes or more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a size\n  help: write a number of bytes, or a whole number with K, M, G or T for powers of 1024, e.g. \"64 MiB\" or \"64M\""
)]
pub struct ByteSizeError(String);

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        parse(text).map(Self).ok_or_else(|| ByteSizeError(text.to_owned()))
    }
}

/// Parses a size. Refuses `MB`, which may mean a power of 1000.
fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit);
    let unit = unit.strip_suffix("iB").filter(|unit| !unit.is_empty()).unwrap_or(unit);
    let shift = match unit {
        "" | "B" => 0,
        _ => UNITS.iter().find(|(letter, _)| unit.chars().eq([*letter]))?.1,
    };
    number.checked_mul(1 << shift)
}

impl fmt::Display for ByteSize {
    /// Writes the size in the largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, shift): &&(char, u32)| self.0 != 0 && self.0.trailing_zeros() >= *shift;
        match UNITS.iter().rev().find(whole) {
            Some((letter, shift)) => write!(f, "{} {letter}iB", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("7 B", 7),
            ("1K", 1024),
            ("512 MiB", 512 << 20),
            ("512MiB", 512 << 20),
            ("1G", 1 << 30),
            ("10 GiB", 10 << 30),
            ("2 T", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_or_may_be_two_is_refused() {
        for text in [
            "",
            " ",
            "-1",
            "+1",
            "1.5G",
            "G",
            "iB",
            "1 ",
            "1  G",
            "1iB",
            "1 GB",
            "1g",
            "1 gib",
            "1 GiBs",
            "1KK",
            "18446744073709551616",
            "16777216T",
        ] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a size\n  help: ")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(number in 0_u64..1 << 22, shift in 0_u32..40) {
            let size = ByteSize(number << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9KMGTiB ]{0,24}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
