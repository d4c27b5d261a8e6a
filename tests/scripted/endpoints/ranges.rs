//! Byte ranges of a NAR.

use crate::sample::{http, nar_url};
use crate::support::http::Response;
use crate::support::scripted_daemon::{Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;

/// NAR of a tree, and its URL.
struct Ranged {
    url: String,
    whole: Vec<u8>,
}

impl Ranged {
    fn new() -> Self {
        let url = nar_url("deep-tree");
        let whole = http().get(&url).body;
        Self { url, whole }
    }

    fn ask(&self, range: &str) -> Response {
        let response = http().get_with(&self.url, &[("Range", range)]);
        assert_eq!(response.header("accept-ranges"), Some("bytes"), "{range}");
        assert_eq!(response.header("content-encoding"), None, "{range}");
        response
    }

    fn is_part(&self, range: &str, first: usize, last: usize) {
        let response = self.ask(range);
        let expected = format!("bytes {first}-{last}/{}", self.whole.len());
        assert_eq!((response.status, response.header("content-range")), (206, Some(&*expected)), "{range}");
        assert_eq!(response.header("content-length"), Some(&*(last - first + 1).to_string()), "{range}");
        assert!(response.body == self.whole[first..=last], "{range}");
    }

    fn is_whole(&self, range: &str) {
        let response = self.ask(range);
        assert_eq!((response.status, response.header("content-range")), (200, None), "{range}");
        assert_eq!(response.header("content-length"), Some(&*self.whole.len().to_string()), "{range}");
        assert!(response.body == self.whole, "{range}");
    }

    fn is_unsatisfiable(&self, range: &str) {
        let response = self.ask(range);
        let expected = format!("bytes */{}", self.whole.len());
        assert_eq!((response.status, response.header("content-range")), (416, Some(&*expected)), "{range}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{range}");
    }
}

#[test]
fn a_download_resumes_at_any_offset() {
    let nar = Ranged::new();
    let length = nar.whole.len();
    for first in [1, 7, 8, 95, 96, 97, length / 2, length - 8, length - 1] {
        nar.is_part(&format!("bytes={first}-"), first, length - 1);
    }
    nar.is_part("bytes=5-5", 5, 5);
    nar.is_part("bytes=100-199", 100, 199);
    nar.is_part("bytes=-16", length - 16, length - 1);
    nar.is_part(&format!("bytes=9-{}", u64::MAX), 9, length - 1);
}

#[test]
fn a_download_of_a_large_nar_resumes() {
    let url = nar_url("large");
    let whole = http().get(&url).body;
    let first = whole.len() - 12_345_678;
    let rest = http().get_with(&url, &[("Range", &format!("bytes={first}-"))]);
    assert!(rest.status == 206 && rest.body == whole[first..]);
}

#[test]
fn a_range_from_zero_has_the_whole_nar() {
    let nar = Ranged::new();
    nar.is_part("bytes=0-", 0, nar.whole.len() - 1);
    nar.is_part("bytes=-99999999", 0, nar.whole.len() - 1);
}

#[test]
fn a_range_that_starts_at_the_end_is_answered_with_the_whole_nar() {
    let nar = Ranged::new();
    nar.is_whole(&format!("bytes={}-", nar.whole.len()));
}

#[test]
fn a_range_beyond_the_end_is_a_416() {
    let nar = Ranged::new();
    for range in [&*format!("bytes={}-", nar.whole.len() + 1), "bytes=99999999999-", "bytes=-0"] {
        nar.is_unsatisfiable(range);
    }
}

#[test]
fn malformed_and_multiple_ranges_are_ignored() {
    let nar = Ranged::new();
    let twenty = (0..20).map(|n| format!("{}-{}", n * 10, n * 10 + 5)).collect::<Vec<_>>().join(",");
    for range in ["bytes=5-2", "chunks=1-2", "bytes=0-1,4-5", "bytes", "bytes=a-b", "", &format!("bytes={twenty}")] {
        nar.is_whole(range);
    }
}

#[test]
fn an_if_range_with_another_tag_is_answered_with_the_whole_nar() {
    let nar = Ranged::new();
    let tag = http().get(&nar.url).header("etag").unwrap().to_owned();
    for (condition, status) in
        [(&*tag, 206), ("\"another\"", 200), (&*format!("W/{tag}"), 200), ("Thu, 01 Jan 1970 00:00:01 GMT", 200)]
    {
        let response = http().get_with(&nar.url, &[("Range", "bytes=10-"), ("If-Range", condition)]);
        assert_eq!(response.status, status, "{condition}");
        let from = if status == 206 { 10 } else { 0 };
        assert!(response.body == nar.whole[from..], "{condition}");
    }
}

#[test]
fn a_502_to_a_range_request_has_accept_ranges() {
    let daemon = ScriptedDaemon::start(Script::greeting(Reply::then_disconnect([])));
    let harmonia = Harmonia::start(&daemon.config());
    let response = harmonia.http().get_with(&nar_url("regular"), &[("Range", "bytes=10-")]);
    assert_eq!((response.status, response.header("accept-ranges")), (502, Some("bytes")));
    assert_eq!((response.header("content-encoding"), response.text().lines().count()), (None, 1));
}
