//! Labels that several families of metrics share, and conversions of their values.

use prometheus_client::encoding::EncodeLabelSet;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabel {
    pub(super) result: &'static str,
}

/// Converts a size to the type of a gauge.
pub(super) fn gauge_value(size: impl TryInto<i64>) -> i64 {
    size.try_into().unwrap_or(i64::MAX)
}
