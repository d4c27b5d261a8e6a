//! `/browse`: the valid paths by name, if the operator enables it (`browse`).
//!
//! Lists and counts only paths that are served, so that a filter does not reveal a hidden path. A page takes a bounded
//! number of queries to nix-daemon.

use std::fmt::Write as _;

use harmonia_protocol::StorePath;
use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::fairness::ClientId;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::html::escape::escape;
use crate::http::html::page::{HTML, breakable, number, page};
use crate::http::links::page_link;
use crate::http::request::context::RequestCx;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::text_response;
use crate::http::visibility::Sight;
use crate::human_size::human_size;
use crate::store::{Deadline, Inventory, StoreError, ValidPath};

/// Paths per page.
const ROWS: usize = 50;
/// Paths per query of nix-daemon.
const BATCH: usize = 64;
/// Upper bound of batches per page, for stores with many hidden paths.
const MAX_BATCHES: usize = 20;
/// Timeout for the first list of all paths.
const INVENTORY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Upper bound of the filter, in bytes: that of a name.
const MAX_FILTER: usize = 211;

/// Answers with a page of the paths whose names contain `filter`, from index `from` of these on.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, filter: &str, from: usize) -> Result<Response, HandlerError> {
    if !app.has_browse {
        return Err(NotFound::UnknownUrl.into());
    }
    let filter = filter.trim().to_ascii_lowercase();
    let _permit = app.io_limits.closure(cx.client).await;
    let inventory = app.store.inventory(INVENTORY_TIMEOUT).await.ok_or(StoreError::Timeout(Deadline::Readiness))?;
    let sight = app.sight(cx).await?;
    let rows = Rows::find(app, &inventory, &filter, from, sight, cx.client).await?;
    let count = || inventory.names.iter().filter(|path| sight.sees(path.hash_part())).count();
    let paths = match sight.is_unlimited() {
        // How many paths are hidden is for operators.
        _ if app.store.has_hidden() => None,
        true => Some(inventory.paths),
        false => Some(tokio::task::block_in_place(count)),
    };
    let html = render(paths, &filter, from, &rows);
    let mut response = text_response(StatusCode::OK, CacheControl::NoStore, HTML, html.into());
    app.pages.protect(&mut response);
    Ok(response)
}

/// Rows of a page.
#[derive(Default)]
struct Rows {
    html: String,
    count: usize,
    /// Index at which the next page starts, if there is one.
    next: Option<usize>,
}

impl Rows {
    async fn find(
        app: &App,
        inventory: &Inventory,
        filter: &str,
        from: usize,
        sight: Sight<'_>,
        client: ClientId,
    ) -> Result<Self, HandlerError> {
        let mut rows = Self::default();
        if filter.len() > MAX_FILTER {
            return Ok(rows);
        }
        let is_seen = |hash| sight.sees(hash) && !app.store.is_known_hidden(hash);
        let is_wanted =
            |path: &StorePath| path.name().to_ascii_lowercase().contains(filter) && is_seen(path.hash_part());
        // Counted from 0 among those that the client sees: indexes among all would tell how many others there are.
        let seen = inventory.names.iter().filter(|path| is_wanted(path));
        let mut matching = seen.enumerate().skip(from);
        // Found out to be hidden by this request, and not counted by the next one.
        let mut hidden = 0;
        for _ in 0..MAX_BATCHES {
            let batch: Vec<_> = tokio::task::block_in_place(|| matching.by_ref().take(BATCH).collect());
            if batch.is_empty() {
                return Ok(rows);
            }
            let paths: Vec<StorePath> = batch.iter().map(|(_, path)| (*path).clone()).collect();
            let infos = app.store.valid_paths(&paths, client).await;
            for ((index, _), info) in batch.into_iter().zip(infos) {
                let valid = match info {
                    // Such a path is not served either.
                    Err(StoreError::UnknownSize(_)) => None,
                    info => info?,
                };
                let Some(valid) = valid else { continue };
                if app.store.is_hidden(&valid, client).await? {
                    hidden += 1;
                    continue;
                }
                if !app.is_public(&valid) {
                    continue;
                }
                if rows.count == ROWS {
                    rows.next = Some(index - hidden);
                    return Ok(rows);
                }
                rows.push(&valid);
            }
        }
        rows.next = matching.next().map(|(index, _)| index - hidden);
        Ok(rows)
    }

    fn push(&mut self, valid: &ValidPath) {
        self.count += 1;
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.html,
            "<tr><td><a href=\"./{}\">{}</a> <small>{}</small></td><td>{}</td></tr>",
            page_link(&valid.path),
            breakable(valid.path.name()),
            valid.path.hash_part(),
            human_size(valid.info.nar_size)
        );
    }
}

fn render(all: Option<usize>, filter: &str, from: usize, rows: &Rows) -> String {
    let all = all.map_or_else(
        || "This cache lists the paths that it serves.".to_owned(),
        |all| {
            let all = number(all as u64);
            format!("The store has {all} valid paths, of which this cache lists those that it serves.")
        },
    );
    let mut main = format!(
        "<nav><a href=\"./\">This cache</a></nav>\n<h1>Paths</h1>\n<p>{all}</p>\n<form action=\"./browse\" method=\"get\">\n<input name=\"q\" value=\"{}\" \
         maxlength=\"{MAX_FILTER}\" autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\" \
         aria-label=\"Part of a name\" placeholder=\"Part of a name\">\n<button type=\"submit\">Filter</button>\n</form>\n\
         <section>\n",
        escape(filter)
    );
    if rows.count == 0 {
        main.push_str("<p>No path matches.</p>\n");
    } else {
        let _ = write!(main, "<table>\n<tr><th>Path</th><th>Size</th></tr>\n{}</table>\n", rows.html);
    }
    main.push_str("</section>\n");
    let query = utf8_percent_encode(filter, NON_ALPHANUMERIC);
    let mut footer = String::new();
    if from > 0 {
        let _ = writeln!(footer, "<a href=\"./browse?q={query}\">First page</a>");
    }
    if let Some(next) = rows.next {
        let _ = writeln!(footer, "<a href=\"./browse?q={query}&amp;from={next}\" rel=\"next\">Next page</a>");
    }
    page("Paths", &main, &footer)
}
