//! Metrics of the object store.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::ResultLabel;

/// Kinds of requests.
const KINDS: [&str; 6] = ["put", "multipart", "get", "head", "list", "delete"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// Counters of requests to the object store.
#[derive(Debug)]
pub(crate) struct BucketMetrics {
    requests: Family<RequestLabels, Counter>,
    bytes: Family<DirectionLabel, Counter>,
    redirected: Counter,
    opened: Counter,
}

impl BucketMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let help = "Requests to the object store, by kind and result; each attempt counts";
        registry.register("bucket_requests", help, requests.clone());
        let bytes = Family::<DirectionLabel, Counter>::default();
        let help = "Bytes of objects sent to and received from the object store, by direction";
        registry.register("bucket_bytes", help, bytes.clone());
        // Series that start at 0 show their first event.
        for kind in KINDS {
            requests.get_or_create_owned(&RequestLabels { kind, result: "ok" });
        }
        for direction in ["sent", "received"] {
            bytes.get_or_create_owned(&DirectionLabel { direction });
        }
        let nars = Family::<ResultLabel, Counter>::default();
        let help = "Files of NARs that clients were redirected to, or that were opened to be sent or kept";
        registry.register("bucket_nars", help, nars.clone());
        let [redirected, opened] =
            ["redirected", "opened"].map(|result| nars.get_or_create_owned(&ResultLabel { result }));
        Self { requests, bytes, redirected, opened }
    }

    /// Records the end of a request.
    pub(crate) fn record_request(&self, kind: &'static str, result: &'static str) {
        self.requests.get_or_create(&RequestLabels { kind, result }).inc();
    }

    /// Records bytes of an object that was put.
    pub(crate) fn record_sent(&self, bytes: u64) {
        self.bytes.get_or_create(&DirectionLabel { direction: "sent" }).inc_by(bytes);
    }

    /// Records bytes of an object that were read.
    pub(crate) fn record_received(&self, bytes: u64) {
        self.bytes.get_or_create(&DirectionLabel { direction: "received" }).inc_by(bytes);
    }

    /// Records that a client was redirected to the file of a NAR.
    pub(crate) fn record_redirect(&self) {
        self.redirected.inc();
    }

    /// Records that the file of a NAR was opened.
    pub(crate) fn record_opened(&self) {
        self.opened.inc();
    }

    /// Returns the number of requests of this kind with this result.
    #[cfg(test)]
    pub(crate) fn requests(&self, kind: &'static str, result: &'static str) -> u64 {
        self.requests.get_or_create(&RequestLabels { kind, result }).get()
    }
}
