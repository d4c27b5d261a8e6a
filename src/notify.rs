//! What the service manager is told (sd_notify(3)): ready, reloading, stopping, and that requests are answered.
//!
//! Nothing is told where nobody asked for it by `NOTIFY_SOCKET`. The watchdog's question goes to [`App::respond`] on the
//! threads that all requests run on. It does not go through a listening socket: the packaged unit may open no network
//! socket of its own, and with all connections in use the question would wait behind them and a server that is merely
//! full would be killed. The accept loop needs no proof, since no error ends it.

use std::sync::Arc;

use hyper::{Request, StatusCode};
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::fairness::Reader;
use crate::http::App;
use crate::http::error::HandlerError;

/// What the watchdog asks: it is answered without the daemon, whose absence is no reason to be restarted.
const QUESTION: &str = "/nix-cache-info";

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

/// Tells whether the daemon is there, at each change, for `systemctl status`; without an end.
pub async fn status(app: Arc<App>) {
    let mut changes = app.store().outage();
    loop {
        let outage = changes.borrow_and_update().as_ref().map(|outage| HandlerError::from(outage.error.clone()));
        let phrase = outage.map_or("serving", |error| error.reason().public_text());
        tell(&[NotifyState::Status(phrase)]);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// No more connections are accepted.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell the service manager {state:?}: {error}");
    }
}

/// Twice in the time that the service manager allows (`WatchdogSec=`) tells it that a request was answered. A request
/// that is not answered keeps it silent, for as long as that takes.
pub async fn watchdog(app: Arc<App>) {
    let Some(allowed) = sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero()) else {
        return;
    };
    let mut turns = interval(allowed / 2);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let mut question = Request::new(());
        *question.uri_mut() = hyper::Uri::from_static(QUESTION);
        question.headers_mut().insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("localhost"));
        let status = app.respond(Reader::server(), question).await.status();
        if status == StatusCode::OK {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the watchdog's request was answered {status}");
        }
    }
}
