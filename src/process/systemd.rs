//! Notifies the service manager (sd_notify(3)) that this process is ready, reloading or stopping.
//!
//! Does nothing if `NOTIFY_SOCKET` is not set.

use std::time::Duration;

use sd_notify::NotifyState;

/// Reports that requests are accepted, with the current configuration.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that the configuration is being reloaded; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("cannot read the clock for the service manager: {error}"),
    }
}

/// Reports that no more connections are accepted.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Reports that a request was answered, for the watchdog.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Sets the status text of `systemctl status`.
pub(crate) fn status(phrase: &str) {
    tell(&[NotifyState::Status(phrase)]);
}

/// Returns the interval at which the watchdog expects [`alive`] (`WatchdogSec=`), if it is enabled.
#[must_use]
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero())
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot notify the service manager of {state:?}: {error}");
    }
}
