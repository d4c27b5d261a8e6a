//! Checks of the responses that monitoring reads.

use crate::support::http::Response;

/// Checks that a response is this line of text, which no cache may keep.
pub(crate) fn is_a_line_of_now(response: &Response, status: u16, line: &str) {
    assert_eq!((response.status, response.text()), (status, &*format!("{line}\n")));
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

/// Checks that a response says that the server is not ready, for this reason.
pub(crate) fn is_not_ready(response: &Response, reason: &str) {
    is_a_line_of_now(response, 503, reason);
    assert!(response.header("retry-after").unwrap().parse::<u32>().is_ok());
    assert!(!response.header("x-request-id").unwrap().is_empty());
}
