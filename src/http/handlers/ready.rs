//! `/ready`: whether a request for a path would succeed now, for load balancers and people.

use hyper::StatusCode;

use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::response::body::Response;
use crate::http::response::status::{not_ready, plain_line};

/// Returns 200 if nix-daemon replies to a query, or the bucket is reached where there is no nix-daemon, else 503 with a line that says why; the details are in the log.
pub(crate) async fn respond(app: &App) -> Response {
    let mut ready = app.store.probe().await.map_err(HandlerError::from);
    if let Some(bucket) = app.bucket().filter(|_| !app.store.has_daemon()) {
        ready = ready.and_then(|()| Ok(bucket.check_reached()?));
    }
    match ready {
        Ok(()) => plain_line("ready"),
        Err(error) => {
            let id = app.error_log.new_request_id();
            app.error_log.request_failed("/ready", StatusCode::SERVICE_UNAVAILABLE, &error, &id);
            not_ready(error.reason().public_text(), &id)
        }
    }
}
