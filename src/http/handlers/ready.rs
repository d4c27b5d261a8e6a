//! `/ready`: whether a request for a path would be answered now, for load balancers and for people.

use hyper::StatusCode;

use super::super::App;
use super::super::error::HandlerError;
use super::super::response::{Reply, not_ready, plain};

/// 200 if the daemon answers a question; else 503 with a phrase that says why, and the details in the log.
pub(in crate::http) async fn respond(app: &App) -> Reply {
    match app.store.probe().await.map_err(HandlerError::from) {
        Ok(()) => plain("ready"),
        Err(error) => {
            let id = app.troubles.new_id();
            app.troubles.report("/ready", StatusCode::SERVICE_UNAVAILABLE, &error, &id);
            not_ready(error.reason().public_text(), &id)
        }
    }
}
