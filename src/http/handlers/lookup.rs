//! `/lookup`: a form that finds the page about a path, by any text that names the path.

use hyper::StatusCode;

use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::Reason;
use crate::http::html::escape::escape;
use crate::http::html::page::{HTML, lookup_form, page};
use crate::http::links::{files_link, page_link};
use crate::http::request::context::RequestCx;
use crate::http::request::lookup_query::LookupQuery;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::text_response;
use crate::http::response::status::redirect;

/// Answers with a redirect to the page or file that `query` names, or with a page that says why there is none.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, query: Option<&str>) -> Result<Response, HandlerError> {
    let query = query.unwrap_or_default();
    let store = app.store.directory();
    let found = match LookupQuery::parse(query, store) {
        LookupQuery::Path(hash, names) => app
            .path_anywhere(hash, cx)
            .await
            .map(|path| if names.is_empty() { page_link(&path) } else { files_link(hash, &names) }),
        LookupQuery::Nar(nar_hash) => app.path_with_nar(&nar_hash, cx).await.map(|valid| page_link(&valid.path)),
        LookupQuery::Empty => return Ok(answer(app, StatusCode::OK, query, None)),
        LookupQuery::OtherStore => {
            let why = format!("This cache serves paths of <code>{}</code> only.", escape(store.as_str()));
            return Ok(answer(app, StatusCode::NOT_FOUND, query, Some(&why)));
        }
        LookupQuery::Unrecognized => {
            return Ok(answer(
                app,
                StatusCode::BAD_REQUEST,
                query,
                Some("This text contains no hash of a store path."),
            ));
        }
    };
    match found {
        Ok(link) => Ok(redirect(StatusCode::FOUND, CacheControl::NoStore, &format!("./{link}"))),
        // The public text does not tell a hidden path from one that is not there.
        Err(HandlerError::NotFound(why)) => {
            let why = format!("{}.", escape(&capitalized(Reason::NotFound(why).public_text())));
            Ok(answer(app, StatusCode::NOT_FOUND, query, Some(&why)))
        }
        Err(error) => Err(error),
    }
}

fn answer(app: &App, status: StatusCode, query: &str, why: Option<&str>) -> Response {
    let store = escape(app.store.directory().as_str());
    let why = why.map(|why| format!("<p>{why}</p>\n")).unwrap_or_default();
    let main = format!(
        "<nav><a href=\"./\">This cache</a></nav>\n<h1>Look up a path</h1>\n{why}{}<section>\n<h2>What can be looked up</h2>\n<ul>\n\
         <li>A store path, <code>{store}/HASH-NAME</code>, or a file in it</li>\n\
         <li>Its name without the directory, or the 32 characters of its hash alone</li>\n\
         <li>A URL of this or another cache that contains the hash</li>\n\
         <li>The hash of a NAR whose path was requested from this cache before</li>\n</ul>\n\
         </section>\n",
        lookup_form("./", query)
    );
    let mut response = text_response(status, CacheControl::NoStore, HTML, page("Look up a path", &main, "").into());
    app.pages.protect(&mut response);
    response
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
