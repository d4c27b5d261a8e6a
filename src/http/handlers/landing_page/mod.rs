//! `/`: the page for people who open the cache's URL in a browser: whether it works, how to set up a client, and facts.

mod client_setup;
pub(crate) mod page;

use std::time::Duration;

use hyper::StatusCode;

use crate::http::app::App;
use crate::http::html::page::HTML;
use crate::http::request::context::RequestCx;
use crate::http::request::route::Route;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::text_response;
use page::View;

/// Timeout for the first count of paths. It continues in the background.
const INVENTORY_TIMEOUT: Duration = Duration::from_millis(300);

/// Answers with the page, with the URL by which this client reached the cache.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>) -> Response {
    let page = &app.landing_page;
    // Numbers of the whole store are not for those who see a part of it.
    let has_numbers = app.known_sight(cx).is_unlimited() && !app.store.has_hidden();
    let inventory = async { if has_numbers { app.store.inventory(INVENTORY_TIMEOUT).await } else { None } };
    let (daemon, inventory) = tokio::join!(page.daemon_status(&app.store), inventory);
    let signer = app.signer.load();
    let keys: Vec<String> = signer.keys().public_keys().map(ToString::to_string).collect();
    let html = page.render(&View {
        url: &app.pages.base_url(cx.parts),
        keys: &keys,
        sign: signer.policy(),
        daemon,
        inventory: inventory.as_deref(),
        totals: app.metrics.http.totals(&[Route::NAR, Route::COMPRESSED_NAR], Route::NARINFO),
        has_browse: app.has_browse,
        granted: cx.granted,
    });
    let mut response = text_response(StatusCode::OK, CacheControl::NoStore, HTML, html.into());
    app.pages.protect(&mut response);
    response
}
