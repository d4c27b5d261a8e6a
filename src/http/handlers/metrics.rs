//! `/metrics`: metrics for Prometheus.

use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};

use crate::http::app::App;
use crate::http::request::accept_encoding::weight_of;
use crate::http::request::context::RequestCx;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::text_response;
use crate::metrics::Exposition;

/// Returns the current values of all metrics.
pub(crate) fn respond(app: &App, cx: RequestCx<'_>) -> Response {
    app.update_gauges();
    let format = negotiate_format(cx.headers());
    text_response(StatusCode::OK, CacheControl::NoStore, format.content_type(), app.metrics.render(format).into())
}

/// Returns OpenMetrics if the client names it with at least the weight of the classic format.
fn negotiate_format(headers: &HeaderMap) -> Exposition {
    let weight = |kind| weight_of(headers, ACCEPT, kind);
    match weight(Exposition::OPEN_METRICS) {
        Some(open_metrics) if open_metrics > 0 && Some(open_metrics) >= weight("text/plain") => Exposition::OpenMetrics,
        _ => Exposition::Classic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_that_name_open_metrics_get_it() {
        let of = |accept: &str| negotiate_format(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]));
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
        assert_eq!(negotiate_format(&HeaderMap::new()), Exposition::Classic);
    }
}
