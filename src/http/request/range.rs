//! `Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14).
//!
//! Decides between the whole representation, one range of it and 416. Leaves the grammar to the crate
//! `http_range_header`. A header that cannot be used is ignored, as section 14.2 allows, because Nix gives up a download if a
//! request to resume it is rejected:
//!
//! - several ranges, another unit, a malformed or reversed range: the whole body;
//! - a range that starts where the body ends: the whole body. A client that has every byte, but not
//!   the end of the framing, sees from the length that it is done; a 416 would be fatal to it;
//! - a range that starts beyond the end, and `bytes=-0`: 416.

use std::cmp::Ordering;

use http_range_header::{SyntacticallyCorrectRange, parse_range_header};
use hyper::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};

/// Part of a representation that a request selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All of it: 200.
    Whole,
    /// One range of it: 206.
    Range(ByteRange),
    /// A range that it does not have: 416.
    Unsatisfiable,
}

/// A range of bytes of a representation, never empty and never beyond its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    first: u64,
    last: u64,
    total: u64,
}

impl ByteRange {
    /// Returns the offset of the first byte.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number of bytes, at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Returns the offsets of the first byte and of that after the last.
    #[must_use]
    pub fn bounds(&self) -> std::ops::Range<u64> {
        self.first..self.last + 1
    }

    /// Returns the value of `Content-Range` in a 206.
    #[must_use]
    pub fn content_range(&self) -> String {
        format!("bytes {}-{}/{}", self.first, self.last, self.total)
    }
}

/// Returns the value of `Content-Range` in a 416, for a representation of `total` bytes.
#[must_use]
pub fn unsatisfied_range(total: u64) -> String {
    format!("bytes */{total}")
}

/// Returns the `Range` header of a request, if it applies to the representation with this strong entity tag.
///
/// It does not if `If-Range` has another tag, a weak one or a date: the client may have bytes of another representation. Nor
/// does it if either header occurs twice.
#[must_use]
pub fn applicable_range<'a>(headers: &'a HeaderMap, etag: &HeaderValue) -> Option<&'a HeaderValue> {
    let mut condition = headers.get_all(IF_RANGE).iter();
    match (condition.next(), condition.next()) {
        (None, _) => {}
        // Equal to a strong tag means strong: the tag of a weak one starts with `W/`.
        (Some(tag), None) if tag == etag => {}
        (Some(_), _) => return None,
    }
    let mut ranges = headers.get_all(RANGE).iter();
    match (ranges.next(), ranges.next()) {
        (Some(range), None) => Some(range),
        _ => None,
    }
}

/// Resolves a `Range` header, if there is one, against a representation of `total` bytes.
#[must_use]
pub fn resolve(range: Option<&HeaderValue>, total: u64) -> Selection {
    let one = range
        .and_then(|value| value.to_str().ok())
        .and_then(|text| parse_range_header(text).ok())
        .map(http_range_header::ParsedRanges::into_ranges);
    let Some(&[range]) = one.as_deref() else {
        return Selection::Whole;
    };
    // The parser reads a position that overflows as `u64::MAX`.
    let (first, last) = match range {
        SyntacticallyCorrectRange::FromLast(0) => return Selection::Unsatisfiable,
        SyntacticallyCorrectRange::FromLast(count) => (total.saturating_sub(count), u64::MAX),
        SyntacticallyCorrectRange::FromStart(first) => (first, u64::MAX),
        SyntacticallyCorrectRange::Indexed(first, last) => (first, last),
    };
    match first.cmp(&total) {
        Ordering::Greater => Selection::Unsatisfiable,
        Ordering::Equal => Selection::Whole,
        Ordering::Less => Selection::Range(ByteRange { first, last: last.min(total - 1), total }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ETAG: HeaderValue = HeaderValue::from_static("\"nar-1\"");

    fn select(text: &str, total: u64) -> Selection {
        resolve(Some(&HeaderValue::from_str(text).unwrap()), total)
    }

    fn part(first: u64, last: u64, total: u64) -> Selection {
        Selection::Range(ByteRange { first, last, total })
    }

    #[test]
    fn one_range_in_each_form_is_selected() {
        assert_eq!(select("bytes=2-5", 10), part(2, 5, 10));
        assert_eq!(select("bytes=2-", 10), part(2, 9, 10));
        assert_eq!(select("bytes=-3", 10), part(7, 9, 10));
        assert_eq!(select("bytes=9-9", 10), part(9, 9, 10));
        assert_eq!(select("BYTES=2-5", 10), part(2, 5, 10));
    }

    #[test]
    fn a_range_from_zero_is_complete() {
        assert_eq!(select("bytes=0-", 10), part(0, 9, 10));
        assert_eq!(select("bytes=0-99", 10), part(0, 9, 10));
        assert_eq!(select("bytes=-99", 10), part(0, 9, 10));
    }

    #[test]
    fn a_range_that_starts_at_the_end_is_the_whole() {
        assert_eq!(select("bytes=10-", 10), Selection::Whole);
        assert_eq!(select("bytes=10-20", 10), Selection::Whole);
        assert_eq!(select("bytes=0-", 0), Selection::Whole);
        assert_eq!(select("bytes=-5", 0), Selection::Whole);
    }

    #[test]
    fn a_range_beyond_the_end_is_unsatisfiable() {
        assert_eq!(select("bytes=11-", 10), Selection::Unsatisfiable);
        assert_eq!(select("bytes=99999999999-", 10), Selection::Unsatisfiable);
        assert_eq!(select("bytes=1-1", 0), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-0", 10), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-0", 0), Selection::Unsatisfiable);
        assert_eq!(unsatisfied_range(10), "bytes */10");
    }

    #[test]
    fn invalid_ranges_are_ignored() {
        let twenty = format!("bytes={}", ["0-1"; 20].join(","));
        for text in [
            "bytes=5-2",
            "bytes=0-1,4-5",
            "chunks=1-2",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-2 3",
            "bytes=--1",
            "bytes=0x1-",
            &twenty,
        ] {
            assert_eq!(select(text, 10), Selection::Whole, "{text}");
        }
        let not_text = HeaderValue::from_bytes(b"bytes=\xff-").unwrap();
        assert_eq!(resolve(Some(&not_text), 10), Selection::Whole);
        assert_eq!(resolve(None, 10), Selection::Whole);
    }

    #[test]
    fn positions_that_overflow_are_beyond_every_end() {
        assert_eq!(select("bytes=99999999999999999999-", 10), Selection::Unsatisfiable);
        assert_eq!(select("bytes=4-99999999999999999999", 10), part(4, 9, 10));
        assert_eq!(select("bytes=-99999999999999999999", 10), part(0, 9, 10));
        // Longer ones are not read at all.
        let endless = format!("bytes={}-", "9".repeat(60_000));
        assert_eq!(select(&endless, 10), Selection::Whole);
    }

    #[test]
    fn a_content_range_names_first_last_and_total() {
        let Selection::Range(part) = select("bytes=2-5", 10) else {
            panic!("not a range");
        };
        assert_eq!(part.content_range(), "bytes 2-5/10");
        assert_eq!((part.first(), part.len()), (2, 4));
    }

    fn headers(fields: &[(hyper::header::HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_range_applies_only_under_the_same_strong_tag() {
        let range = (RANGE, "bytes=1-");
        for (condition, applies) in [
            ("\"nar-1\"", true),
            ("\"nar-2\"", false),
            ("W/\"nar-1\"", false),
            ("nar-1", false),
            ("Thu, 01 Jan 1970 00:00:01 GMT", false),
        ] {
            let headers = headers(&[range.clone(), (IF_RANGE, condition)]);
            assert_eq!(applicable_range(&headers, &ETAG).is_some(), applies, "{condition}");
        }
        assert!(applicable_range(&headers(&[range]), &ETAG).is_some());
    }

    #[test]
    fn fields_given_twice_are_ignored() {
        let range = (RANGE, "bytes=1-");
        let twice = headers(&[range.clone(), (RANGE, "bytes=2-")]);
        assert_eq!(applicable_range(&twice, &ETAG), None);
        let tag = (IF_RANGE, "\"nar-1\"");
        assert_eq!(applicable_range(&headers(&[range, tag.clone(), tag]), &ETAG), None);
        assert_eq!(applicable_range(&HeaderMap::new(), &ETAG), None);
    }

    proptest! {
        #[test]
        fn a_range_is_never_empty_nor_beyond_the_end(text in "bytes=[0-9]{0,21}-[0-9]{0,21}", total: u64) {
            if let Selection::Range(part) = select(&text, total) {
                prop_assert!(part.first <= part.last && part.last < total);
                prop_assert!(part.len() >= 1);
            }
        }

        #[test]
        fn a_resume_runs_from_its_start_to_the_end(total in 1..u64::MAX, at: prop::sample::Index) {
            let first = at.index(usize::try_from(total).unwrap()) as u64;
            let selection = select(&format!("bytes={first}-"), total);
            prop_assert_eq!(selection, part(first, total - 1, total));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(bytes=)?[-0-9, a-z]{0,40}", total: u64) {
            let _ = select(&text, total);
        }
    }
}
