//! What a server counts, and how a test waits for an event that is only counted.

use super::http::Http;

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
    let last = (0..3000).find_map(|_| {
        let text = metrics(http);
        (value(&text, wanted) == Some(expected)).then_some(text)
    });
    assert!(last.is_some(), "{wanted} is never {expected}:\n{}", metrics(http));
}
