//! `/lookup`: from what somebody knows of a path to the page about it. A plain form, without scripts.

use hyper::StatusCode;

use super::super::App;
use super::super::error::HandlerError;
use super::super::html::escape;
use super::super::pasted::{Wanted, files_place, page_place};
use super::super::people_page::{HTML, lookup_form, page};
use super::super::reason::Reason;
use super::super::response::{Keep, Reply, text};
use super::path_page::redirect;
use crate::fairness::ClientId;

/// Answers what was put into the field: a redirect to what is meant, or a page that says why there is none. Errors of the
/// daemon are those of the page that it would lead to.
pub(in crate::http) async fn respond(app: &App, asked: Option<&str>, client: ClientId) -> Result<Reply, HandlerError> {
    let asked = asked.unwrap_or_default();
    let store = app.store.directory();
    let found = match Wanted::parse(asked, store) {
        Wanted::Path(hash, names) => app
            .valid_path(hash, client)
            .await
            .map(|valid| if names.is_empty() { page_place(&valid.path) } else { files_place(hash, &names) }),
        Wanted::Nar(nar_hash) => app.path_with_nar(&nar_hash, client).await.map(|valid| page_place(&valid.path)),
        Wanted::Nothing => return Ok(answer(app, StatusCode::OK, asked, None)),
        Wanted::OtherStore => {
            let why = format!("This cache has the paths of <code>{}</code>.", escape(store.as_str()));
            return Ok(answer(app, StatusCode::NOT_FOUND, asked, Some(&why)));
        }
        Wanted::Unclear => {
            return Ok(answer(app, StatusCode::BAD_REQUEST, asked, Some("This has no hash of a store path in it.")));
        }
    };
    match found {
        Ok(place) => Ok(redirect(&format!("./{place}"))),
        // It says of all of them the same.
        Err(HandlerError::NotFound(why)) => {
            let why = format!("{}.", escape(&capitalised(Reason::NotFound(why).public_text())));
            Ok(answer(app, StatusCode::NOT_FOUND, asked, Some(&why)))
        }
        Err(error) => Err(error),
    }
}

fn answer(app: &App, status: StatusCode, asked: &str, why: Option<&str>) -> Reply {
    let store = escape(app.store.directory().as_str());
    let why = why.map(|why| format!("<p>{why}</p>\n")).unwrap_or_default();
    let main = format!(
        "<nav><a href=\"./\">This cache</a></nav>\n<h1>Look up a path</h1>\n{why}{}<section>\n<h2>What can be looked up</h2>\n<ul>\n\
         <li>A store path, <code>{store}/HASH-NAME</code>, or a file in it</li>\n\
         <li>Its name without the directory, or the 32 characters of its hash alone</li>\n\
         <li>A URL of this or of another cache that has the hash in it</li>\n\
         <li>The hash of a NAR, if this cache has been asked for its path</li>\n</ul>\n\
         </section>\n",
        lookup_form("./", asked)
    );
    let mut reply = text(status, Keep::Not, HTML, page("Look up a path", &main, "").into());
    app.pages.protect(&mut reply);
    reply
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
