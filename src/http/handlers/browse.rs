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
use super::super::people_page::{HTML, number, page};
use super::super::reason::NotFound;
use super::super::response::{Keep, Reply, text};
use crate::client::Client;
use crate::human_size::human_size;
use crate::store::{Step, StoreError};

/// Paths of a page.
const ROWS: usize = 50;
/// Paths that are asked about at once.
const BATCH: usize = 64;
/// Paths of a page that are asked about, where many are not given out.
const MAX_ASKED: usize = 20 * BATCH;
/// How long the first list of all paths is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// The longest filter, in bytes: the longest name.
const MAX_FILTER: usize = 211;

/// Answers a request for the paths whose names have `filter` in them, from this place among all paths on.
pub(in crate::http) async fn respond(
    app: &App,
    filter: &str,
    from: usize,
    client: Client,
) -> Result<Reply, HandlerError> {
    if !app.is_browsed {
        return Err(NotFound::UnknownUrl.into());
    }
    let _turn = app.files.closure(client).await;
    let inventory = app.store.inventory(PATIENCE).await.ok_or(StoreError::Late(Step::Readiness))?;
    let filter = filter.trim().to_ascii_lowercase();
    let is_wanted = |path: &StorePath| path.name().to_ascii_lowercase().contains(&filter);
    let is_sane = filter.len() <= MAX_FILTER;
    let mut matching = inventory.names.iter().enumerate().skip(from).filter(|(_, path)| is_sane && is_wanted(path));
    let (mut rows, mut asked, mut next) = (String::new(), 0, None);
    let mut shown = 0;
    'pages: loop {
        let batch: Vec<_> = tokio::task::block_in_place(|| matching.by_ref().take(BATCH).collect());
        let paths: Vec<StorePath> = batch.iter().map(|(_, path)| (*path).clone()).collect();
        if batch.is_empty() {
            break;
        }
        let answers = app.store.valid_paths(&paths, client).await;
        for ((at, path), answer) in batch.into_iter().zip(answers) {
            let Some(valid) = answer?.filter(|valid| app.is_public(valid)) else { continue };
            if shown == ROWS {
                next = Some(at);
                break 'pages;
            }
            shown += 1;
            let _ = writeln!(
                rows,
                "<tr><td><a href=\"./{}\">{}</a></td><td>{}</td></tr>",
                page_place(path),
                escape(path.base_name()),
                human_size(valid.info.nar_size)
            );
        }
        asked += paths.len();
        if asked >= MAX_ASKED {
            next = matching.next().map(|(at, _)| at);
            break;
        }
    }
    let mut main = format!(
        "<nav><a href=\"./\">This cache</a></nav>\n<h1>Paths</h1>\n<p>{} paths are valid in the store; those are listed that this cache \
         gives out.</p>\n<form action=\"./browse\" method=\"get\">\n<input name=\"q\" value=\"{}\" maxlength=\"{MAX_FILTER}\" \
         autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\" aria-label=\"Part of a name\" placeholder=\"Part of a name\">\n\
         <button type=\"submit\">Filter</button>\n</form>\n<section>\n",
        number(inventory.paths as u64),
        escape(&filter)
    );
    if shown == 0 {
        main.push_str("<p>There are none here.</p>\n");
    } else {
        let _ = write!(main, "<table>\n<tr><th>Path</th><th>Size</th></tr>\n{rows}</table>\n");
    }
    main.push_str("</section>\n");
    let mut footer = String::new();
    let query = utf8_percent_encode(&filter, NON_ALPHANUMERIC);
    if from > 0 {
        let _ = writeln!(footer, "<a href=\"./browse?q={query}\">First page</a>");
    }
    if let Some(next) = next {
        let _ = writeln!(footer, "<a href=\"./browse?q={query}&amp;from={next}\" rel=\"next\">Next page</a>");
    }
    let mut reply = text(StatusCode::OK, Keep::Not, HTML, page("Paths", &main, &footer).into());
    app.pages.protect(&mut reply);
    Ok(reply)
}
