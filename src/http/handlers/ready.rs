//! `/ready`: whether a request for a path would succeed now, for load balancers and people.

use harmonia_protocol::HashPart;
use hyper::StatusCode;

use crate::access::Visible;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::request::context::RequestCx;
use crate::http::response::body::Response;
use crate::http::response::status::{not_ready, plain_line, status_text};

/// Returns 200 if nix-daemon replies to a query, or the bucket is reached where there is no nix-daemon, else 503 with a line that says why; the details are in the log.
///
/// With a path it is 200 only if that is in the bucket too, with all that it refers to, so that a build can wait for it.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, path: Option<HashPart>) -> Response {
    let mut ready = app.store.probe().await.map_err(HandlerError::from);
    if let Some(bucket) = app.bucket().filter(|_| !app.store.has_daemon()) {
        ready = ready.and_then(|()| Ok(bucket.check_reached()?));
    }
    match ready {
        Ok(()) => match path {
            None => plain_line("ready"),
            Some(path) => is_published(app, cx, path).await,
        },
        Err(error) => {
            let id = app.error_log.new_request_id();
            app.error_log.request_failed("/ready", StatusCode::SERVICE_UNAVAILABLE, &error, &id);
            not_ready(error.reason().public_text(), &id)
        }
    }
}

/// Returns 200 if a path is in the bucket, else 503 with a line that says whether it will be; 404 without a bucket, or for what the
/// client may not see.
async fn is_published(app: &App, cx: RequestCx<'_>, path: HashPart) -> Response {
    let sees_all = matches!(cx.granted.views, Visible::All);
    let Some(bucket) = app.bucket().filter(|_| sees_all && !app.store.is_known_hidden(path)) else {
        return status_text(StatusCode::NOT_FOUND);
    };
    let why = match bucket.has(&path).await {
        Some(true) => return plain_line("ready"),
        Some(false) if bucket.is_queued(&path) => "waits to be published",
        Some(false) => "not in the bucket",
        None => "the bucket is unreachable",
    };
    not_ready(why, &app.error_log.new_request_id())
}
