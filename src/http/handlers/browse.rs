//! `/browse`: valid paths by name, where the operator wants them listed (`browse`).
//!
//! Only what is given out is listed, and nothing is counted that is not, so that a filter tells nobody of a path that is
//! kept back. A page takes a bounded number of questions to the daemon.

use std::fmt::Write as _;

use harmonia_protocol::StorePath;
use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::App;
use super::super::error::HandlerError;
use super::super::html::escape;
use super::super::pasted::page_place;
use super::super::people_page::{HTML, breakable, number, page};
use super::super::reason::NotFound;
use super::super::response::{Keep, Reply, text};
use crate::fairness::ClientId;
use crate::human_size::human_size;
use crate::store::{Deadline, Inventory, StoreError, ValidPath};

/// Paths of a page.
const ROWS: usize = 50;
/// Paths that are asked about at once.
const BATCH: usize = 64;
/// Batches of a page, where many paths are not given out.
const MAX_BATCHES: usize = 20;
/// Time that the first list of all paths is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// The longest filter, in bytes: the longest name.
const MAX_FILTER: usize = 211;

/// Answers a request for the paths whose names have `filter` in them, from this place among all paths on.
pub(in crate::http) async fn respond(
    app: &App,
    filter: &str,
    from: usize,
    client: ClientId,
) -> Result<Reply, HandlerError> {
    if !app.is_browsed {
        return Err(NotFound::UnknownUrl.into());
    }
    let filter = filter.trim().to_ascii_lowercase();
    let _turn = app.files.closure(client).await;
    let inventory = app.store.inventory(PATIENCE).await.ok_or(StoreError::Timeout(Deadline::Readiness))?;
    let rows = Rows::find(app, &inventory, &filter, from, client).await?;
    let html = render(inventory.paths, &filter, from, &rows);
    let mut reply = text(StatusCode::OK, Keep::Not, HTML, html.into());
    app.pages.protect(&mut reply);
    Ok(reply)
}

/// The rows of a page.
#[derive(Default)]
struct Rows {
    html: String,
    count: usize,
    /// The place at which the next page begins, if there is more.
    next: Option<usize>,
}

impl Rows {
    async fn find(
        app: &App,
        inventory: &Inventory,
        filter: &str,
        from: usize,
        client: ClientId,
    ) -> Result<Self, HandlerError> {
        let mut rows = Self::default();
        if filter.len() > MAX_FILTER {
            return Ok(rows);
        }
        let is_wanted = |path: &StorePath| path.name().to_ascii_lowercase().contains(filter);
        let mut matching = inventory.names.iter().enumerate().skip(from).filter(|(_, path)| is_wanted(path));
        for _ in 0..MAX_BATCHES {
            let batch: Vec<_> = tokio::task::block_in_place(|| matching.by_ref().take(BATCH).collect());
            if batch.is_empty() {
                return Ok(rows);
            }
            let paths: Vec<StorePath> = batch.iter().map(|(_, path)| (*path).clone()).collect();
            let answers = app.store.valid_paths(&paths, client).await;
            for ((at, _), answer) in batch.into_iter().zip(answers) {
                let valid = match answer {
                    // Clients cannot have such a path either.
                    Err(StoreError::UnknownSize(_)) => None,
                    answer => answer?.filter(|valid| app.is_public(valid)),
                };
                let Some(valid) = valid else { continue };
                if rows.count == ROWS {
                    rows.next = Some(at);
                    return Ok(rows);
                }
                rows.push(&valid);
            }
        }
        rows.next = matching.next().map(|(at, _)| at);
        Ok(rows)
    }

    fn push(&mut self, valid: &ValidPath) {
        self.count += 1;
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.html,
            "<tr><td><a href=\"./{}\">{}</a> <small>{}</small></td><td>{}</td></tr>",
            page_place(&valid.path),
            breakable(valid.path.name()),
            valid.path.hash_part(),
            human_size(valid.info.nar_size)
        );
    }
}

fn render(all: usize, filter: &str, from: usize, rows: &Rows) -> String {
    let mut main = format!(
        "<nav><a href=\"./\">This cache</a></nav>\n<h1>Paths</h1>\n<p>The store has {} valid paths, of which those are \
         listed that this cache serves.</p>\n<form action=\"./browse\" method=\"get\">\n<input name=\"q\" value=\"{}\" \
         maxlength=\"{MAX_FILTER}\" autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\" \
         aria-label=\"Part of a name\" placeholder=\"Part of a name\">\n<button type=\"submit\">Filter</button>\n</form>\n\
         <section>\n",
        number(all as u64),
        escape(filter)
    );
    if rows.count == 0 {
        main.push_str("<p>There are none here.</p>\n");
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
