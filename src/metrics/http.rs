//! Metrics of HTTP requests, responses and their bodies.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::request_notes::note;

/// Upper bounds in seconds, from a response out of memory to one that waited for nix-daemon. Dashboards made for other
/// versions of harmonia expect this range.
const BUCKETS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Method of a request. All methods that are not supported count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are HTTP's own
pub(crate) enum Method {
    Get,
    Head,
    Other,
}

impl Method {
    const fn label(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Other => "other",
        }
    }
}

/// The side that ended a body early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AbortedBy {
    /// The client disconnected, or read nothing for too long.
    Client,
    /// The source of the body failed.
    Server,
}

impl AbortedBy {
    /// Returns the name in metrics and in the access log.
    #[must_use]
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    path: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    status: u16,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabel {
    path: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AbortedLabel {
    by: &'static str,
}

/// Counts bytes. Clones share the count.
#[derive(Debug, Clone)]
pub(crate) struct ByteCounter(Counter);

impl ByteCounter {
    /// Adds to the count.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc_by(bytes);
    }
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug)]
pub(crate) struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RequestLabels, Histogram>,
    errors: Family<ErrorLabels, Counter>,
    sent: Family<PathLabel, Counter>,
    aborted: Family<AbortedLabel, Counter>,
    in_flight: Gauge,
    dropped: Counter,
}

impl HttpMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let requests = Family::default();
        r.register("http_requests", "Requests answered, by method, path template and status", requests.clone());
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let help = "Time from a request's head to its response's head, in seconds";
        r.register("http_request_duration_seconds", help, durations.clone());
        let errors = Family::default();
        let help = "Responses with status 404, 502 or 503, by reason";
        r.register("http_error_responses", help, errors.clone());
        let sent = Family::default();
        r.register("http_response_bytes", "Bytes of response bodies sent, after content encoding", sent.clone());
        let aborted = Family::default();
        r.register(
            "http_bodies_aborted",
            "Response bodies that ended early, by the side that ended them",
            aborted.clone(),
        );
        let in_flight = Gauge::default();
        r.register(
            "http_requests_in_flight",
            "Requests whose response has not been sent completely",
            in_flight.clone(),
        );
        let dropped = Counter::default();
        let help = "Access log lines that were dropped";
        r.register("access_log_dropped", help, dropped.clone());
        // Series that start at 0 show their first event.
        for by in [AbortedBy::Client, AbortedBy::Server] {
            aborted.get_or_create_owned(&AbortedLabel { by: by.label() });
        }
        Self { requests, durations, errors, sent, aborted, in_flight, dropped }
    }

    /// Counts a request as in flight until the result is dropped.
    #[must_use]
    pub(crate) fn request_started(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Returns the number of requests in flight.
    #[must_use]
    pub(crate) fn requests_in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// Records the head of a response. `path` is the template of the route.
    pub(crate) fn record_response(&self, method: Method, path: &'static str, status: u16, duration: Duration) {
        let labels = RequestLabels { method: method.label(), path, status };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Creates the series of error responses with this status and reason.
    pub(crate) fn init_error_responses(&self, status: u16, reason: &'static str) {
        self.errors.get_or_create_owned(&ErrorLabels { status, reason });
    }

    /// Records an error response.
    pub(crate) fn record_error_response(&self, status: u16, reason: &'static str) {
        note(|notes| notes.reason = Some(reason));
        self.errors.get_or_create(&ErrorLabels { status, reason }).inc();
    }

    /// Returns the counter of body bytes sent under `path`, the template of a route.
    #[must_use]
    pub(crate) fn response_bytes(&self, path: &'static str) -> ByteCounter {
        ByteCounter(self.sent.get_or_create_owned(&PathLabel { path }))
    }

    /// Records a response body that ended early.
    pub(crate) fn record_abort(&self, by: AbortedBy) {
        self.aborted.get_or_create(&AbortedLabel { by: by.label() }).inc();
    }

    /// Records access log lines that were dropped.
    pub(crate) fn record_dropped_log_lines(&self, lines: u64) {
        self.dropped.inc_by(lines);
    }

    /// Sums up the responses on the routes with these templates; `narinfo` is the template of narinfos.
    #[must_use]
    pub(crate) fn totals(&self, routes: &[&'static str], narinfo: &'static str) -> Totals {
        let sent = |path| self.sent.get(&PathLabel { path }).map_or(0, |bytes| bytes.get());
        let answered = |statuses: &[u16]| {
            let count = |method: Method, status: u16| {
                let labels = RequestLabels { method: method.label(), path: narinfo, status };
                self.requests.get(&labels).map_or(0, |count| count.get())
            };
            statuses.iter().map(|status| count(Method::Get, *status) + count(Method::Head, *status)).sum()
        };
        Totals {
            bytes_sent: routes.iter().map(|path| sent(path)).sum(),
            narinfos_found: answered(&[200, 304]),
            narinfos_missed: answered(&[404]),
        }
    }
}

/// Totals since the start of the program, for the landing page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Bytes of response bodies.
    pub bytes_sent: u64,
    /// Requests for narinfos of valid paths.
    pub narinfos_found: u64,
    /// Requests for narinfos answered 404.
    pub narinfos_missed: u64,
}
