//! Tells the service manager (sd_notify(3)) that this process is ready, reloading or stopping.
//!
//! Tells nothing where `NOTIFY_SOCKET` is not set.

use std::time::Duration;

use sd_notify::NotifyState;

/// Requests are accepted, and with the configuration that is in force.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being replaced; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("cannot read the clock for the service manager: {error}"),
    }
}

/// No more connections are accepted.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the service manager that a request was answered, for its watchdog.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Shows a phrase in `systemctl status`.
pub fn status(phrase: &str) {
    tell(&[NotifyState::Status(phrase)]);
}

/// Returns the interval in which the watchdog expects [`alive`] (`WatchdogSec=`), if there is one.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero())
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell the service manager {state:?}: {error}");
    }
}
