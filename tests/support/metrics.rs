//! What a server counts, and how a test waits for an event that is only counted.

use std::time::{Duration, Instant};

use super::http::Http;

/// No event takes this long; a test that hangs says nothing.
const TIMEOUT: Duration = Duration::from_secs(30);

/// All metrics as they are now.
pub(crate) fn metrics(http: Http) -> String {
    http.get("/metrics").text().to_owned()
}

/// The value of the series that is written like this; nothing if there is none.
pub(crate) fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// Asks until a series has this value; panics when it does not come to it.
pub(crate) fn await_value(http: Http, wanted: &str, expected: f64) {
    await_that(http, wanted, |value| value == Some(expected));
}

/// Asks until this holds of a series; panics when it does not come to it.
pub(crate) fn await_that(http: Http, wanted: &str, holds: impl Fn(Option<f64>) -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let text = metrics(http);
        if holds(value(&text, wanted)) {
            return;
        }
        assert!(Instant::now() < deadline, "{wanted} never comes to it:\n{text}");
    }
}
