//! All metrics, registered under their names.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::access::AccessMetrics;
use super::audit_log::AuditLogMetrics;
#[cfg(feature = "bucket")]
use super::bucket::BucketMetrics;
#[cfg(feature = "bucket")]
use super::bucket_lookups::BucketLookupMetrics;
#[cfg(feature = "bucket")]
use super::bucket_publishing::PublishingMetrics;
use super::certificate::CertificateExpiry;
use super::client_certificates::ClientCertificateMetrics;
use super::connections::ConnectionGauges;
use super::daemon::DaemonMetrics;
use super::exposition::Exposition;
use super::gc_roots::GcRootMetrics;
use super::http::HttpMetrics;
use super::labels::gauge_value;
use super::nar_cache::NarCacheMetrics;
use super::narinfo_cache::NarinfoCacheMetrics;
use super::passwords::PasswordMetrics;
use super::process::Process;
use super::push::PushMetrics;
use super::reclaimed::{Reclaimed, ReclaimedMetrics};
use super::samples::Samples;
use super::token_keys::TokenKeyMetrics;
use super::views::ViewMetrics;

/// All metrics of the program.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) access: AccessMetrics,
    pub(crate) audit_log: AuditLogMetrics,
    #[cfg(feature = "bucket")]
    pub(crate) bucket: BucketMetrics,
    #[cfg(feature = "bucket")]
    pub(crate) bucket_lookups: BucketLookupMetrics,
    #[cfg(feature = "bucket")]
    pub(crate) publishing: PublishingMetrics,
    pub(crate) certificate: CertificateExpiry,
    pub(crate) client_certificates: ClientCertificateMetrics,
    pub(crate) connections: ConnectionGauges,
    pub(crate) daemon: DaemonMetrics,
    pub(crate) gc_roots: GcRootMetrics,
    pub(crate) http: HttpMetrics,
    pub(crate) nar_cache: NarCacheMetrics,
    pub(crate) narinfo_cache: NarinfoCacheMetrics,
    pub(crate) passwords: PasswordMetrics,
    pub(crate) push: PushMetrics,
    pub(crate) token_keys: TokenKeyMetrics,
    pub(crate) views: ViewMetrics,
    quarantined_paths: Gauge,
    reclaimed: ReclaimedMetrics,
}

impl Default for Metrics {
    /// Registers all metrics, with nothing counted. The names of counters get the suffix `_total`.
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process::new()));
        let harmonia = registry.sub_registry_with_prefix("harmonia");
        register_build_info(harmonia);
        let audit_log = AuditLogMetrics::register(harmonia);
        #[cfg(feature = "bucket")]
        let bucket = BucketMetrics::register(harmonia);
        #[cfg(feature = "bucket")]
        let bucket_lookups = BucketLookupMetrics::register(harmonia);
        #[cfg(feature = "bucket")]
        let publishing = PublishingMetrics::register(harmonia);
        let certificate = CertificateExpiry::register(harmonia);
        let client_certificates = ClientCertificateMetrics::register(harmonia);
        let http = HttpMetrics::register(harmonia);
        let daemon = DaemonMetrics::register(harmonia);
        let narinfo_cache = NarinfoCacheMetrics::register(harmonia);
        let gc_roots = GcRootMetrics::register(harmonia);
        let quarantined_paths = Gauge::default();
        let help = "Store paths answered 404 because their NAR failed verification";
        harmonia.register("quarantined_paths", help, quarantined_paths.clone());
        let nar_cache = NarCacheMetrics::register(harmonia);
        let passwords = PasswordMetrics::register(harmonia);
        let push = PushMetrics::register(harmonia);
        let reclaimed = ReclaimedMetrics::register(harmonia);
        let access = AccessMetrics::register(harmonia);
        let connections = ConnectionGauges::register(harmonia);
        let token_keys = TokenKeyMetrics::register(harmonia);
        let views = ViewMetrics::register(harmonia);
        Self {
            registry,
            access,
            audit_log,
            #[cfg(feature = "bucket")]
            bucket,
            #[cfg(feature = "bucket")]
            bucket_lookups,
            #[cfg(feature = "bucket")]
            publishing,
            certificate,
            client_certificates,
            connections,
            daemon,
            gc_roots,
            http,
            nar_cache,
            narinfo_cache,
            passwords,
            push,
            token_keys,
            views,
            quarantined_paths,
            reclaimed,
        }
    }
}

impl Metrics {
    /// Sets the number of quarantined paths.
    pub fn set_quarantined_paths(&self, paths: usize) {
        self.quarantined_paths.set(gauge_value(paths));
    }

    /// Returns the counter of permits of a resource that are reclaimed.
    #[must_use]
    pub fn reclaimed(&self, resource: &'static str) -> Reclaimed {
        self.reclaimed.of(resource)
    }

    /// Renders all metrics in a text format.
    #[must_use]
    pub fn render(&self, format: Exposition) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        format.convert(text)
    }

    /// Returns the current value of every series.
    #[must_use]
    pub fn samples(&self) -> Samples {
        Samples::parse(&self.render(Exposition::Classic))
    }
}

fn register_build_info(registry: &mut Registry) {
    let build = Family::<[(&str, &str); 2], Gauge>::default();
    registry.register("build_info", "Constant 1, labelled with the release", build.clone());
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("arch", std::env::consts::ARCH)];
    build.get_or_create_owned(&labels).set(1);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use harmonia_protocol::operation::Opcode;

    use super::*;
    use crate::metrics::{Method, Outcome};

    #[test]
    fn names_and_labels_are_those_that_dashboards_query() {
        let metrics = Metrics::default();
        metrics.http.record_response(Method::Get, "/{hash}.narinfo", 200, Duration::from_micros(200));
        metrics.daemon.record_operation(Opcode::QueryPathInfo, Outcome::Timeout);
        metrics.http.response_bytes("/nar/{nar}").add(7);
        let in_flight = metrics.http.request_started();
        let text = metrics.render(Exposition::OpenMetrics);
        for line in [
            r#"harmonia_http_requests_total{method="GET",path="/{hash}.narinfo",status="200"} 1"#,
            r#"harmonia_http_request_duration_seconds_bucket{le="0.0001",method="GET",path="/{hash}.narinfo",status="200"} 0"#,
            r#"harmonia_http_request_duration_seconds_bucket{le="0.00025",method="GET",path="/{hash}.narinfo",status="200"} 1"#,
            r#"harmonia_http_request_duration_seconds_bucket{le="1.0",method="GET",path="/{hash}.narinfo",status="200"} 1"#,
            r#"harmonia_http_request_duration_seconds_count{method="GET",path="/{hash}.narinfo",status="200"} 1"#,
            r#"harmonia_http_response_bytes_total{path="/nar/{nar}"} 7"#,
            r#"harmonia_http_bodies_aborted_total{by="server"} 0"#,
            r#"harmonia_daemon_operations_total{op="QueryPathInfo",result="timeout"} 1"#,
            r#"harmonia_daemon_connection_attempts_total{result="error"} 0"#,
            "harmonia_http_requests_in_flight 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop(in_flight);
        assert!(metrics.render(Exposition::Classic).contains("harmonia_http_requests_in_flight 0\n"));
    }
}
