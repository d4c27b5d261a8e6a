//! Counters of HTTP: requests, their responses, and what becomes of the bodies.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::notes::note;

/// In seconds: from an answer out of memory to one that waited for the daemon. Dashboards made for other versions of
/// harmonia ask for this range.
const BUCKETS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// A request's method. What is not answered is one, however it is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are HTTP's own
pub enum Method {
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
pub enum AbortedBy {
    /// It went away, or took nothing for too long.
    Client,
    /// The daemon's NAR failed.
    Server,
}

impl AbortedBy {
    /// The name in metrics and in the access log.
    #[must_use]
    pub const fn label(self) -> &'static str {
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

/// A number of bytes that grows. Clones share it.
#[derive(Debug, Clone)]
pub struct Bytes(Counter);

impl Bytes {
    /// Adds to it.
    pub fn add(&self, bytes: u64) {
        self.0.inc_by(bytes);
    }
}

/// Counts as one until it is dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug)]
pub(super) struct HttpMetrics {
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
        r.register("http_requests", "Requests answered", requests.clone());
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let help = "Seconds from a request's head to its response's head";
        r.register("http_request_duration_seconds", help, durations.clone());
        let errors = Family::default();
        let help = "Responses 404, 502 and 503 by the reason";
        r.register("http_error_responses", help, errors.clone());
        let sent = Family::default();
        r.register("http_response_bytes", "Bytes of response bodies sent, as encoded", sent.clone());
        let aborted = Family::default();
        r.register("http_bodies_aborted", "Response bodies that ended early", aborted.clone());
        let in_flight = Gauge::default();
        r.register("http_requests_in_flight", "Requests whose response has not ended", in_flight.clone());
        let dropped = Counter::default();
        let help = "Lines of the access log that were not written";
        r.register("access_log_dropped", help, dropped.clone());
        // Series that begin at 0 show their first event as one.
        for by in [AbortedBy::Client, AbortedBy::Server] {
            aborted.get_or_create_owned(&AbortedLabel { by: by.label() });
        }
        Self { requests, durations, errors, sent, aborted, in_flight, dropped }
    }
}

/// Totals since the start, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of bodies.
    pub bytes_sent: u64,
    /// Requests for narinfos of paths that there are.
    pub narinfos_found: u64,
    /// Requests for narinfos of paths that there are not.
    pub narinfos_missed: u64,
}

impl Metrics {
    /// Adds up the answers on routes with these templates; narinfos are under `narinfo`.
    #[must_use]
    pub fn totals(&self, routes: &[&'static str], narinfo: &'static str) -> Totals {
        let sent = |path| self.http.sent.get(&PathLabel { path }).map_or(0, |bytes| bytes.get());
        let answered = |statuses: &[u16]| {
            let of = |method: Method, status: u16| {
                let labels = RequestLabels { method: method.label(), path: narinfo, status };
                self.http.requests.get(&labels).map_or(0, |count| count.get())
            };
            statuses.iter().map(|status| of(Method::Get, *status) + of(Method::Head, *status)).sum()
        };
        Totals {
            bytes_sent: routes.iter().map(|path| sent(path)).sum(),
            narinfos_found: answered(&[200, 304]),
            narinfos_missed: answered(&[404]),
        }
    }
    /// A request has come; it is in flight until the value is dropped.
    #[must_use]
    pub fn request(&self) -> InFlight {
        self.http.in_flight.inc();
        InFlight(self.http.in_flight.clone())
    }

    /// Requests whose response has not ended.
    #[must_use]
    pub fn requests_in_flight(&self) -> u64 {
        u64::try_from(self.http.in_flight.get()).unwrap_or(0)
    }

    /// The head of its response is ready. `path` is the template of its route.
    pub fn answered(&self, method: Method, path: &'static str, status: u16, took: Duration) {
        let labels = RequestLabels { method: method.label(), path, status };
        self.http.requests.get_or_create(&labels).inc();
        self.http.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Begins to count responses of this status for this reason, a name of the program's own.
    pub fn expect_error_responses(&self, status: u16, reason: &'static str) {
        self.http.errors.get_or_create_owned(&ErrorLabels { status, reason });
    }

    /// A request has been answered with this status for this reason.
    pub fn error_response(&self, status: u16, reason: &'static str) {
        note(|notes| notes.reason = Some(reason));
        self.http.errors.get_or_create(&ErrorLabels { status, reason }).inc();
    }

    /// Returns the counter of body bytes under `path`, the template of a route.
    #[must_use]
    pub fn sent(&self, path: &'static str) -> Bytes {
        Bytes(self.http.sent.get_or_create_owned(&PathLabel { path }))
    }

    /// Counts lines of the access log that are not written.
    pub fn access_log_dropped(&self, lines: u64) {
        self.http.dropped.inc_by(lines);
    }

    /// A body has ended early.
    pub fn aborted(&self, by: AbortedBy) {
        self.http.aborted.get_or_create(&AbortedLabel { by: by.label() }).inc();
    }
}
