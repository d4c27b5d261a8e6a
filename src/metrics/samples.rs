//! The numbers that are counted, for people who ask for them in other ways than Prometheus does.
//!
//! They are read out of the text that Prometheus would get now, so that both say the same, and nothing is counted twice.

use std::collections::BTreeMap;

use super::{Exposition, Metrics};

/// The value of each series, by its name and labels as they are written.
#[derive(Debug, Clone, Default)]
pub struct Samples(BTreeMap<String, f64>);

impl Metrics {
    /// All numbers as they are now.
    #[must_use]
    pub fn samples(&self) -> Samples {
        Samples::of(&self.render(Exposition::Classic))
    }
}

impl Samples {
    fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(lines.filter_map(sample).collect())
    }

    /// The value of one series without labels, or with one.
    #[must_use]
    pub fn value(&self, name: &str, label: Option<(&str, &str)>) -> u64 {
        let series = match label {
            None => name.to_owned(),
            Some((label, value)) => format!("{name}{{{label}=\"{value}\"}}"),
        };
        whole(self.0.get(&series).copied().unwrap_or_default())
    }

    /// The sum of all series of this name.
    #[must_use]
    pub fn sum(&self, name: &str) -> u64 {
        let is_of =
            |series: &str| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        whole(self.0.iter().filter(|(series, _)| is_of(series)).map(|(_, value)| value).sum())
    }

    /// The values of all series of this name that have one label, by its values.
    #[must_use]
    pub fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let prefix = format!("{name}{{{label}=\"");
        let value = |(series, value): (&String, &f64)| {
            Some((series.strip_prefix(&prefix)?.strip_suffix("\"}")?.to_owned(), whole(*value)))
        };
        self.0.iter().filter_map(value).collect()
    }
}

/// A count or a number of bytes.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, and counts are not negative")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ConnectionState, Lookup, Method};
    use std::time::Duration;

    #[test]
    fn they_are_what_prometheus_gets() {
        let metrics = Metrics::default();
        for status in [200, 404] {
            metrics.answered(Method::Get, "/{hash}.narinfo", status, Duration::from_micros(200));
        }
        metrics.looked_up(Lookup::Hit);
        metrics.connections().add(ConnectionState::Idle);
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
