//! `/metrics`: what is counted, for Prometheus.

use hyper::StatusCode;

use super::super::App;
use super::super::response::{Keep, Reply, text};
use crate::metrics::CONTENT_TYPE;

/// All metrics as they are now.
pub(in crate::http) fn respond(app: &App) -> Reply {
    app.store.record();
    if let Some(nars) = &app.nars {
        nars.record();
    }
    text(StatusCode::OK, Keep::Not, CONTENT_TYPE, app.metrics.render().into())
}
