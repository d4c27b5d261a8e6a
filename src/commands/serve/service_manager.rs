//! Tasks that report to the service manager: whether nix-daemon answers, and that requests are answered.
//!
//! The watchdog's request goes to [`App::respond`] on the threads that all requests run on. It does not go through a listening socket: the packaged unit may open no network
//! socket of its own, and with all connections in use the request would wait behind them and a server that is merely
//! full would be killed. The accept loop needs no proof, since no error ends it.

use std::sync::Arc;

use hyper::{Request, StatusCode};
use tokio::time::{MissedTickBehavior, interval};

use crate::fairness::Requester;
use crate::http::App;
use crate::http::error::HandlerError;
use crate::process::systemd;

/// What the watchdog asks: it is answered without the daemon, whose absence is no reason to be restarted.
const WATCHDOG_TARGET: &str = "/nix-cache-info";

/// Tells whether the daemon is there, at each change, for `systemctl status`; without an end.
pub(super) async fn status(app: Arc<App>) {
    let mut changes = app.store().daemon_outage();
    loop {
        let outage = changes.borrow_and_update().as_ref().map(|outage| HandlerError::from(outage.error.clone()));
        let phrase = outage.map_or("serving", |error| error.reason().public_text());
        systemd::status(phrase);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Twice in the time that the service manager allows (`WatchdogSec=`) tells it that a request was answered. A request
/// that is not answered keeps it silent, for as long as that takes.
pub(super) async fn watchdog(app: Arc<App>) {
    let Some(allowed) = systemd::watchdog_interval() else {
        return;
    };
    let mut turns = interval(allowed / 2);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let mut request = Request::new(());
        *request.uri_mut() = hyper::Uri::from_static(WATCHDOG_TARGET);
        request.headers_mut().insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("localhost"));
        let status = app.respond(Requester::server(), request).await.status();
        if status == StatusCode::OK {
            systemd::alive();
        } else {
            tracing::error!("the watchdog's request was answered {status}");
        }
    }
}
