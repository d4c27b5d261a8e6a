//! Current values of the metrics, for `harmonia status`.
//!
//! They are parsed from the text that Prometheus would get now, so both agree and nothing is counted twice.

use std::collections::BTreeMap;

/// The value of each series, by name and labels as they are rendered.
#[derive(Debug, Clone, Default)]
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Parses the classic text format.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(lines.filter_map(sample).collect())
    }

    /// Returns the value of a series without labels, or with one.
    #[must_use]
    pub fn value(&self, name: &str, label: Option<(&str, &str)>) -> u64 {
        let series = match label {
            None => name.to_owned(),
            Some((label, value)) => format!("{name}{{{label}=\"{value}\"}}"),
        };
        whole(self.0.get(&series).copied().unwrap_or_default())
    }

    /// Returns the sum of all series of this name.
    #[must_use]
    pub fn sum(&self, name: &str) -> u64 {
        let is_named =
            |series: &str| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        whole(self.0.iter().filter(|(series, _)| is_named(series)).map(|(_, value)| value).sum())
    }

    /// Returns the values of all series of this name with a single label, by its value.
    #[must_use]
    pub fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let prefix = format!("{name}{{{label}=\"");
        let value = |(series, value): (&String, &f64)| {
            Some((series.strip_prefix(&prefix)?.strip_suffix("\"}")?.to_owned(), whole(*value)))
        };
        self.0.iter().filter_map(value).collect()
    }
}

/// Converts a count or a number of bytes.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, and counts are not negative")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ConnectionState, Lookup, Method, Metrics};
    use std::time::Duration;

    #[test]
    fn samples_are_what_prometheus_gets() {
        let metrics = Metrics::default();
        for status in [200, 404] {
            metrics.http.record_response(Method::Get, "/{hash}.narinfo", status, Duration::from_micros(200));
        }
        metrics.narinfo_cache.record_lookup(Lookup::Hit);
        metrics.connections.add(ConnectionState::Idle);
        metrics.reclaimed("connection").increment();
        let samples = metrics.samples();
        assert_eq!(samples.sum("harmonia_http_requests_total"), 2);
        assert_eq!(samples.value("harmonia_narinfo_cache_requests_total", Some(("result", "hit"))), 1);
        assert_eq!(samples.value("harmonia_http_connections", Some(("state", "idle"))), 1);
        assert_eq!(samples.value("harmonia_http_requests_in_flight", None), 0);
        let reclaimed = samples.by_label("harmonia_reclaimed_total", "resource");
        assert_eq!(reclaimed, BTreeMap::from([("connection".to_owned(), 1)]));
    }
}
