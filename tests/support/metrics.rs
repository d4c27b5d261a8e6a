//! Metrics of a server, and waiting for events that only metrics show.

use std::time::{Duration, Instant};

use super::http::Http;

/// Upper bound of the wait for an event: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Requests all metrics.
pub(crate) fn metrics(http: Http) -> String {
    http.get("/metrics").text().to_owned()
}

/// Returns the value of a series, written as in the text format; `None` if it is absent.
pub(crate) fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// Polls until a series has this value; panics after a timeout.
pub(crate) fn await_value(http: Http, wanted: &str, expected: f64) {
    await_that(http, wanted, |value| value == Some(expected));
}

/// Polls until this holds of the value of a series; panics after a timeout.
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
