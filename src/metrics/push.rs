//! Metrics of uploads.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::gauge_value;

/// Classes of principals.
const CLASSES: [&str; 4] = ["anonymous", "user", "cert", "jwt"];

/// Kind of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// File of a NAR.
    Nar,
    /// Narinfo.
    NarInfo,
    /// Discarded or refused.
    Other,
}

impl Upload {
    const fn label(self) -> &'static str {
        match self {
            Self::Nar => "nar",
            Self::NarInfo => "narinfo",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UploadLabels {
    class: &'static str,
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Debug)]
pub(crate) struct PushMetrics {
    uploads: Family<UploadLabels, Counter>,
    received: Family<ClassLabel, Counter>,
    in_progress: Gauge,
    spool_bytes: Gauge,
    spool_files: Gauge,
    spool_max: Gauge,
}

/// An upload in progress, until it is dropped.
#[derive(Debug)]
pub(crate) struct InProgress(Gauge);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl PushMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let uploads = Family::<UploadLabels, Counter>::default();
        let help = "Uploads that ended, by class of principal, kind and result";
        registry.register("push_uploads", help, uploads.clone());
        let received = Family::<ClassLabel, Counter>::default();
        let help = "Bytes of uploads received, by class of principal";
        registry.register("push_received_bytes", help, received.clone());
        // Series that start at 0 show their first event.
        for class in CLASSES {
            received.get_or_create_owned(&ClassLabel { class });
            for kind in [Upload::Nar, Upload::NarInfo] {
                uploads.get_or_create_owned(&UploadLabels { class, kind: kind.label(), result: "ok" });
            }
        }
        let mut gauge = |name, help| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            uploads,
            received,
            in_progress: gauge("push_uploads_in_progress", "Uploads that are received or wait for their turn"),
            spool_bytes: gauge("push_spool_bytes", "Disk space that uploads use or have reserved, in bytes"),
            spool_files: gauge("push_spool_files", "Uploaded files that wait for their narinfo, or are being received"),
            spool_max: gauge("push_spool_max_bytes", "Limit of push_spool_bytes, or 0 if nobody may push"),
        }
    }

    /// Counts an upload as in progress until the result is dropped.
    #[must_use]
    pub(crate) fn upload_started(&self) -> InProgress {
        self.in_progress.inc();
        InProgress(self.in_progress.clone())
    }

    /// Records the end of an upload.
    pub(crate) fn record(&self, class: &'static str, kind: Upload, result: &'static str) {
        self.uploads.get_or_create(&UploadLabels { class, kind: kind.label(), result }).inc();
    }

    /// Records bytes that were received.
    pub(crate) fn record_bytes(&self, class: &'static str, bytes: u64) {
        self.received.get_or_create(&ClassLabel { class }).inc_by(bytes);
    }

    /// Sets the limit of the spool, in bytes.
    pub(crate) fn set_spool_limit(&self, bytes: u64) {
        self.spool_max.set(gauge_value(bytes));
    }

    /// Sets what is in the spool.
    pub(crate) fn set_spool(&self, bytes: u64, files: usize) {
        self.spool_bytes.set(gauge_value(bytes));
        self.spool_files.set(gauge_value(files));
    }
}
