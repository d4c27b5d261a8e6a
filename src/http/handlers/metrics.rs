//! `/metrics`: what is counted, for Prometheus.

use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};

use super::super::App;
use super::super::coding::weight_of;
use super::super::response::{Keep, Reply, text};
use crate::metrics::Exposition;

/// All metrics as they are now.
pub(in crate::http) fn respond(app: &App, headers: &HeaderMap) -> Reply {
    app.record();
    let format = wanted(headers);
    text(StatusCode::OK, Keep::Not, format.content_type(), app.metrics.render(format).into())
}

/// OpenMetrics for who names it and does not like the classic format better.
fn wanted(headers: &HeaderMap) -> Exposition {
    let weight = |kind| weight_of(headers, ACCEPT, kind);
    match weight(Exposition::OPEN_METRICS) {
        Some(weight_of_it) if weight_of_it > 0 && Some(weight_of_it) >= weight("text/plain") => Exposition::OpenMetrics,
        _ => Exposition::Classic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_are_for_who_names_them() {
        let of = |accept: &str| wanted(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]));
        for accept in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; version=1.0.0; q=0.5, text/plain;version=0.0.4;q=0.5, */*;q=0.1",
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5",
        ] {
            assert_eq!(of(accept), Exposition::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
        ] {
            assert_eq!(of(accept), Exposition::Classic, "{accept}");
        }
        assert_eq!(wanted(&HeaderMap::new()), Exposition::Classic);
    }
}
