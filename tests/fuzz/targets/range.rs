//! `Range` and `If-Range`: a part is never empty nor beyond the end, one range in its plainest form is what it says, and
//! nothing but the same strong tag keeps a range.

use std::cmp::Ordering;

use harmonia::http::request::range::{Selection, applicable_range, resolve};
use hyper::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};

use super::Parameters;

const ETAG: &str = "\"nar-1\"";

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let (total, with_condition) = (parameters.number(), parameters.byte() % 2 == 1);
    // Small representations are interesting too.
    let total = if total % 2 == 0 { total >> 1 } else { total >> 1 & 0xff };
    let mut lines = parameters.rest().split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    if with_condition {
        append(&mut headers, IF_RANGE, lines.next().unwrap_or_default());
    }
    let ranges: Vec<_> = lines.collect();
    for range in &ranges {
        append(&mut headers, RANGE, range);
    }

    let range = applicable_range(&headers, &HeaderValue::from_static(ETAG));
    if range.is_some() {
        assert_eq!(headers.get_all(RANGE).iter().count(), 1);
        assert!(headers.get_all(IF_RANGE).iter().all(|tag| tag == ETAG));
    }
    let selection = resolve(range, total);
    if let Selection::Range(part) = selection {
        assert!(part.len() >= 1 && part.first() < total && part.len() <= total - part.first(), "{part:?}");
        let last = part.first() + part.len() - 1;
        assert_eq!(part.content_range(), format!("bytes {}-{last}/{total}", part.first()));
    }
    match range.map(|range| plain(range.as_bytes())) {
        None => assert_eq!(selection, Selection::Whole),
        Some(Some(ends)) => assert_eq!(told(selection), expected(ends, total), "{range:?} of {total}"),
        Some(None) => {}
    }
}

fn append(headers: &mut HeaderMap, name: hyper::header::HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.append(name, value);
    }
}

/// The two numbers of `bytes=FIRST-LAST`, where one may be missing.
fn plain(text: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let (first, last) = std::str::from_utf8(text).ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let is_one = text.len() < 19 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_one { Some(text.parse().ok()) } else { None }
    };
    let ends = (number(first)?, number(last)?);
    (ends != (None, None)).then_some(ends)
}

/// First and last byte of a part, or what it is instead.
fn told(selection: Selection) -> Result<(u64, u64), &'static str> {
    match selection {
        Selection::Range(part) => Ok((part.first(), part.first() + part.len() - 1)),
        Selection::Whole => Err("whole"),
        Selection::Unsatisfiable => Err("unsatisfiable"),
    }
}

/// Applies RFC 9110, section 14.1.2, with one exception that clients need: a range that begins at the end is the whole.
fn expected(ends: (Option<u64>, Option<u64>), total: u64) -> Result<(u64, u64), &'static str> {
    let (first, last) = match ends {
        (Some(first), Some(last)) if last < first => return Err("whole"),
        (Some(first), last) => (first, last.unwrap_or(u64::MAX)),
        (None, Some(0)) => return Err("unsatisfiable"),
        (None, suffix) => (total - total.min(suffix.unwrap_or_default()), u64::MAX),
    };
    match first.cmp(&total) {
        Ordering::Greater => Err("unsatisfiable"),
        Ordering::Equal => Err("whole"),
        Ordering::Less => Ok((first, last.min(total - 1))),
    }
}
