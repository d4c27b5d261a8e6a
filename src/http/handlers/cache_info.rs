//! `/nix-cache-info`: what a client requests first.
//!
//! Does not depend on nix-daemon: clients disable a cache whose `/nix-cache-info` fails.

use crate::http::app::App;
use crate::http::request::context::RequestCx;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::text::text;

/// Returns exactly the keys that every client knows, since ncps rejects others. `Priority` is always there: clients take an
/// absent one for the most preferred.
pub(crate) fn respond(app: &App, cx: RequestCx<'_>) -> Response {
    let (store, priority) = (app.store.directory(), app.priority);
    let info = format!("StoreDir: {store}\nWantMassQuery: 1\nPriority: {priority}\n");
    text(app.compressor.as_ref(), cx.headers(), CacheControl::OneHour, "text/x-nix-cache-info", info.into())
}
