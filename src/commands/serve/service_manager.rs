//! Tasks that report to systemd: whether nix-daemon is available, and, for the watchdog, that requests are answered.
//!
//! The watchdog passes its request to [`App::respond`] on the threads that all requests run on, and not through a listening
//! socket: the packaged unit may not open network sockets, and with all connections in use the request would queue, so that a
//! server that is merely busy would be killed. The accept loop needs no check, since no error ends it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode};
use tokio::time::{MissedTickBehavior, interval};

use crate::fairness::Requester;
use crate::http::App;
use crate::http::error::HandlerError;
use crate::process::systemd;

/// Target of the watchdog's request. It needs no nix-daemon, whose absence is no reason for a restart.
const WATCHDOG_TARGET: &str = "/nix-cache-info";

/// Reports to `systemctl status` whenever nix-daemon becomes available or unavailable. Never returns.
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

/// Reports twice within `WatchdogSec=` that a request was answered. Reports nothing while a request is not answered.
pub(super) async fn watchdog(app: Arc<App>) {
    let Some(allowed) = systemd::watchdog_interval() else {
        return;
    };
    let mut turns = interval(allowed / 2);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = hyper::Uri::from_static(WATCHDOG_TARGET);
        request.headers_mut().insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("localhost"));
        let status = app.respond(Requester::server(), request).await.status();
        if status == StatusCode::OK {
            systemd::alive();
        } else {
            tracing::error!("watchdog request failed with status {status}");
        }
    }
}
