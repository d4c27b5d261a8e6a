//! Metrics of passwords.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::ResultLabel;

/// Outcome of the check of a name and a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordResult {
    /// The password was right lately, so bcrypt did not run.
    Remembered,
    /// bcrypt says that the password is right.
    Right,
    /// The name or the password is wrong.
    Wrong,
    /// Too many checks of the same client waited.
    Refused,
}

#[derive(Debug)]
pub(crate) struct PasswordMetrics {
    remembered: Counter,
    right: Counter,
    wrong: Counter,
    refused: Counter,
}

impl PasswordMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let checks = Family::<ResultLabel, Counter>::default();
        registry.register("password_checks", "Names and passwords checked, by result", checks.clone());
        let checks = |result| checks.get_or_create_owned(&ResultLabel { result });
        let (remembered, right) = (checks("remembered"), checks("right"));
        Self { remembered, right, wrong: checks("wrong"), refused: checks("refused") }
    }

    /// Counts a check.
    pub(crate) fn record(&self, result: PasswordResult) {
        let counter = match result {
            PasswordResult::Remembered => &self.remembered,
            PasswordResult::Right => &self.right,
            PasswordResult::Wrong => &self.wrong,
            PasswordResult::Refused => &self.refused,
        };
        counter.inc();
    }
}
