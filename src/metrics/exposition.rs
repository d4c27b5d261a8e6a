//! The two text formats that Prometheus reads.
//!
//! The library writes OpenMetrics. The classic format (0.0.4) differs in that all lines of a counter have its full name, and
//! in that it has neither units nor an end marker.

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// The classic text format, version 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The media type of OpenMetrics.
    pub const OPEN_METRICS: &str = "application/openmetrics-text";

    /// Returns the value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Converts from OpenMetrics to this format.
    pub(super) fn convert(self, open_metrics: String) -> String {
        match self {
            Self::Classic => classic(&open_metrics),
            Self::OpenMetrics => open_metrics,
        }
    }
}

fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + open_metrics.len() / 32);
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            // The next line says whether it belongs to a counter.
            help = Some(line);
        } else if let Some((name, "counter")) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            for line in help.take().into_iter().chain([line]) {
                let (kind, rest) = line.split_at("# HELP ".len());
                text.extend([kind, name, "_total", &rest[name.len()..], "\n"]);
            }
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            for line in help.take().into_iter().chain([line]) {
                text.extend([line, "\n"]);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_format_has_full_counter_names_and_neither_units_nor_an_end() {
        let open_metrics = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1\n\
                            # HELP b Size.\n# TYPE b gauge\nb{x=\"y\"} 2\n# EOF\n";
        let expected = "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\na_seconds_total 1\n\
                        # HELP b Size.\n# TYPE b gauge\nb{x=\"y\"} 2\n";
        assert_eq!(Exposition::Classic.convert(open_metrics.to_owned()), expected);
    }
}
