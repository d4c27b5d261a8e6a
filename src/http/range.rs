//! Byte ranges of a request (RFC 9110, sections 13.1.5 and 14).
//!
//! Owns the decision between the whole representation, one part of it and 416. The grammar is the
//! crate `http_range_header`'s. A field that cannot be honoured is ignored, as section 14.2 allows,
//! because a Nix client takes any other answer to its resume as final:
//!
//! - several ranges, another unit, a malformed or reversed range: the whole body;
//! - a range that starts where the body ends: the whole body, since a client that has every byte
//!   but lost the end of the framing sees from the length that it is done, while 416 is fatal to
//!   it;
//! - a range that starts beyond the end, and `bytes=-0`: 416.

use std::cmp::Ordering;

use http_range_header::{SyntacticallyCorrectRange, parse_range_header};
use hyper::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};

/// What a request asks of a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// All of it: 200.
    Whole,
    /// One part of it: 206.
    Part(Part),
    /// Nothing that it has: 416.
    Unsatisfiable,
}

/// A part of a representation, never empty and never beyond its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    first: u64,
    last: u64,
    total: u64,
}

impl Part {
    /// The offset of the first byte.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number of bytes, at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a part is never empty")]
    pub fn len(&self) -> u64 {
        self.last - self.first + 1
    }

    /// The value of `Content-Range` under a 206.
    #[must_use]
    pub fn content_range(&self) -> String {
        format!("bytes {}-{}/{}", self.first, self.last, self.total)
    }
}

/// The value of `Content-Range` under a 416, for a representation of `total` bytes.
#[must_use]
pub fn unsatisfied_range(total: u64) -> String {
    format!("bytes */{total}")
}

/// The `Range` field of a request for the representation tagged `etag`, if it is to be honoured.
///
/// `etag` is the strong tag with its quotes. An `If-Range` with another tag, a weak one or a date
/// means that the client holds bytes of something else or cannot know: it gets the whole. So does a
/// request that has either field twice.
#[must_use]
pub fn honoured<'a>(headers: &'a HeaderMap, etag: &HeaderValue) -> Option<&'a HeaderValue> {
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

/// What `range`, a `Range` field if there is one, asks of a representation of `total` bytes.
#[must_use]
pub fn requested(range: Option<&HeaderValue>, total: u64) -> Requested {
    let one = range
        .and_then(|value| value.to_str().ok())
        .and_then(|text| parse_range_header(text).ok())
        .map(http_range_header::ParsedRanges::into_ranges);
    let Some(&[range]) = one.as_deref() else {
        return Requested::Whole;
    };
    // The parser reads a position that overflows as `u64::MAX`.
    let (first, last) = match range {
        SyntacticallyCorrectRange::FromLast(0) => return Requested::Unsatisfiable,
        SyntacticallyCorrectRange::FromLast(count) => (total.saturating_sub(count), u64::MAX),
        SyntacticallyCorrectRange::FromStart(first) => (first, u64::MAX),
        SyntacticallyCorrectRange::Indexed(first, last) => (first, last),
    };
    match first.cmp(&total) {
        Ordering::Greater => Requested::Unsatisfiable,
        Ordering::Equal => Requested::Whole,
        Ordering::Less => Requested::Part(Part { first, last: last.min(total - 1), total }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ETAG: HeaderValue = HeaderValue::from_static("\"nar-1\"");

    fn ask(text: &str, total: u64) -> Requested {
        requested(Some(&HeaderValue::from_str(text).unwrap()), total)
    }

    fn part(first: u64, last: u64, total: u64) -> Requested {
        Requested::Part(Part { first, last, total })
    }

    #[test]
    fn one_range_in_each_form_is_a_part() {
        assert_eq!(ask("bytes=2-5", 10), part(2, 5, 10));
        assert_eq!(ask("bytes=2-", 10), part(2, 9, 10));
        assert_eq!(ask("bytes=-3", 10), part(7, 9, 10));
        assert_eq!(ask("bytes=9-9", 10), part(9, 9, 10));
        assert_eq!(ask("BYTES=2-5", 10), part(2, 5, 10));
    }

    #[test]
    fn statement_37_a_range_from_zero_is_complete() {
        assert_eq!(ask("bytes=0-", 10), part(0, 9, 10));
        assert_eq!(ask("bytes=0-99", 10), part(0, 9, 10));
        assert_eq!(ask("bytes=-99", 10), part(0, 9, 10));
    }

    #[test]
    fn statement_38_a_range_that_starts_at_the_end_is_the_whole() {
        assert_eq!(ask("bytes=10-", 10), Requested::Whole);
        assert_eq!(ask("bytes=10-20", 10), Requested::Whole);
        assert_eq!(ask("bytes=0-", 0), Requested::Whole);
        assert_eq!(ask("bytes=-5", 0), Requested::Whole);
    }

    #[test]
    fn statement_39_a_range_beyond_the_end_is_unsatisfiable() {
        assert_eq!(ask("bytes=11-", 10), Requested::Unsatisfiable);
        assert_eq!(ask("bytes=99999999999-", 10), Requested::Unsatisfiable);
        assert_eq!(ask("bytes=1-1", 0), Requested::Unsatisfiable);
        assert_eq!(ask("bytes=-0", 10), Requested::Unsatisfiable);
        assert_eq!(ask("bytes=-0", 0), Requested::Unsatisfiable);
        assert_eq!(unsatisfied_range(10), "bytes */10");
    }

    #[test]
    fn statement_40_what_cannot_be_honoured_is_ignored() {
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
            assert_eq!(ask(text, 10), Requested::Whole, "{text}");
        }
        let not_text = HeaderValue::from_bytes(b"bytes=\xff-").unwrap();
        assert_eq!(requested(Some(&not_text), 10), Requested::Whole);
        assert_eq!(requested(None, 10), Requested::Whole);
    }

    #[test]
    fn positions_that_overflow_are_beyond_every_end() {
        assert_eq!(ask("bytes=99999999999999999999-", 10), Requested::Unsatisfiable);
        assert_eq!(ask("bytes=4-99999999999999999999", 10), part(4, 9, 10));
        assert_eq!(ask("bytes=-99999999999999999999", 10), part(0, 9, 10));
        // Longer ones are not read at all.
        let endless = format!("bytes={}-", "9".repeat(60_000));
        assert_eq!(ask(&endless, 10), Requested::Whole);
    }

    #[test]
    fn a_content_range_names_first_last_and_total() {
        let Requested::Part(part) = ask("bytes=2-5", 10) else {
            panic!("not a part");
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
    fn statement_42_only_the_same_strong_tag_keeps_the_range() {
        let range = (RANGE, "bytes=1-");
        for (condition, kept) in [
            ("\"nar-1\"", true),
            ("\"nar-2\"", false),
            ("W/\"nar-1\"", false),
            ("nar-1", false),
            ("Thu, 01 Jan 1970 00:00:01 GMT", false),
        ] {
            let headers = headers(&[range.clone(), (IF_RANGE, condition)]);
            assert_eq!(honoured(&headers, &ETAG).is_some(), kept, "{condition}");
        }
        assert!(honoured(&headers(&[range]), &ETAG).is_some());
    }

    #[test]
    fn fields_given_twice_are_ignored() {
        let range = (RANGE, "bytes=1-");
        let twice = headers(&[range.clone(), (RANGE, "bytes=2-")]);
        assert_eq!(honoured(&twice, &ETAG), None);
        let tag = (IF_RANGE, "\"nar-1\"");
        assert_eq!(honoured(&headers(&[range, tag.clone(), tag]), &ETAG), None);
        assert_eq!(honoured(&HeaderMap::new(), &ETAG), None);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_within_the_whole(text in "bytes=[0-9]{0,21}-[0-9]{0,21}", total: u64) {
            if let Requested::Part(part) = ask(&text, total) {
                prop_assert!(part.first <= part.last && part.last < total);
                prop_assert!(part.len() >= 1);
            }
        }

        #[test]
        fn statement_35_a_resume_runs_from_its_start_to_the_end(total in 1..u64::MAX, at: prop::sample::Index) {
            let first = at.index(usize::try_from(total).unwrap()) as u64;
            let asked = ask(&format!("bytes={first}-"), total);
            prop_assert_eq!(asked, part(first, total - 1, total));
        }

        #[test]
        fn no_text_is_refused_with_a_panic(text in "(bytes=)?[-0-9, a-z]{0,40}", total: u64) {
            let _ = ask(&text, total);
        }
    }
}
