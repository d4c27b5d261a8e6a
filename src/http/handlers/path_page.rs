//! `/serve/<hash>-<name>`: the page about a store path.
//!
//! Says no more than a client that has the hash could learn from narinfos; a hidden path is a 404. Its size is bounded: only
//! a part of many references and of the closure is shown.

use std::fmt::Write as _;
use std::sync::Arc;

use harmonia_protocol::{HashPart, StorePath};
use hyper::StatusCode;

use super::bucket_page;
use super::path_facts::{bytes, copy_commands, nowrap, references};
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::html::escape::escape;
use crate::http::html::page::{Facts, HTML, breakable, code_box, number, page, section};
use crate::http::links::encode_segment;
use crate::http::path_report::{ClosureReport, PathReport};
use crate::http::request::context::RequestCx;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::status::redirect;
use crate::http::response::text::text;
use crate::human_size::human_size;
use crate::signing::{SignatureReport, SignatureStatus, Trust};
use crate::store::ValidPath;

/// Links that only some paths have.
struct Links {
    files: bool,
    log: bool,
}

/// Answers with the page about the path, or redirects to it if the name after the hash part differs.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, path: &StorePath) -> Result<Response, HandlerError> {
    let valid = match app.valid_path(path.hash_part(), cx).await {
        Ok(valid) => valid,
        Err(why) => return bucket_page::respond(app, cx, path, why).await,
    };
    if valid.path != *path {
        return Ok(redirect(
            StatusCode::FOUND,
            CacheControl::NoStore,
            &format!("./{}", encode_segment(valid.path.base_name().as_bytes())),
        ));
    }
    let report = {
        let _permit = app.io_limits.closure(cx.client).await;
        app.public_path_report(&valid, cx).await?
    };
    let links = links(app, &valid, cx).await;
    let keys: Vec<String> = app.signer.load().keys().public_keys().map(ToString::to_string).collect();
    let html = render(&valid.path, &report, &links, &app.pages.base_url(cx.parts), &keys);
    let compressor = app.compressor.as_ref();
    let mut response = text(compressor, cx.headers(), CacheControl::Revalidate, HTML, html.into());
    app.pages.protect(&mut response);
    Ok(response)
}

async fn links(app: &App, valid: &Arc<ValidPath>, cx: RequestCx<'_>) -> Links {
    let _permit = app.io_limits.open_file(cx.client).await;
    let sight = app.known_sight(cx);
    let files = app.store.find_file(valid, &[], |hash| sight.sees(hash), cx.client).await;
    let log = app.store.build_log(valid.path.hash_part(), cx.client).await;
    // An error is reported to the client that follows the link.
    Links { files: matches!(files, Ok(Some(_))), log: matches!(log, Ok(Some(_))) }
}

fn render(path: &StorePath, report: &PathReport, links: &Links, url: &str, keys: &[String]) -> String {
    let mut main = format!("<nav><a href=\"../\">This cache</a></nav>\n<h1>{}</h1>\n", breakable(path.name()));
    main.push_str(&code_box(&report.path));
    main.push_str("<section>\n<h2>Facts</h2>\n");
    main.push_str(&facts(report));
    main.push_str("</section>\n");
    let commands = copy_commands(&report.path, url, keys);
    let lead = "With its closure, as root or another trusted user; the second command works with any release of Nix:";
    main.push_str(&section("Copy it", lead, &commands.each_ref().map(String::as_str)));
    closure(&mut main, &report.closure);
    references(&mut main, path.base_name(), &report.references);
    page(path.name(), &main, &footer(path.hash_part(), path, links))
}

fn facts(report: &PathReport) -> String {
    let mut facts = Facts::default();
    facts.row("Size", &bytes(report.nar_size));
    facts.row("With its closure", &closure_size(&report.closure));
    if let Some(compressed) = &report.compressed {
        facts.row("Compressed", &bytes(compressed.size));
    }
    facts.row("NAR hash", &nowrap(&report.nar_hash));
    if let Some(deriver) = &report.deriver {
        facts.row("Built from", &nowrap(deriver));
    }
    if let Some(address) = &report.content_address {
        facts.row("Content address", &nowrap(address));
    }
    facts.row("Signed by", &signed_by(&report.signatures));
    if report.trust == Trust::Nobody {
        facts.row(
            "Trust",
            "Neither built here nor signed by a key that this cache trusts, so it is served without this cache's signature.",
        );
    }
    facts.html()
}

fn signed_by(signatures: &[SignatureReport]) -> String {
    let of = |signature: &SignatureReport| {
        let what = match signature.status {
            SignatureStatus::Ours => "this cache",
            SignatureStatus::Trusted => "trusted by this cache",
            SignatureStatus::Unknown => "not checked here",
            SignatureStatus::Forged => "invalid: not made with the key of this name",
        };
        format!("<code>{}</code> ({what})", escape(&signature.key))
    };
    if signatures.is_empty() { "no key".to_owned() } else { signatures.iter().map(of).collect::<Vec<_>>().join("<br>") }
}

fn closure_size(closure: &ClosureReport) -> String {
    let (size, paths) = (human_size(closure.nar_size), number(closure.paths as u64));
    let noun = if closure.paths == 1 { "path" } else { "paths" };
    match closure.incomplete {
        None => format!("{size} in {paths} {noun}"),
        Some(_) => format!("at least {size} in {paths} {noun}; the count is incomplete"),
    }
}

/// Renders a table of the largest paths, each with a bar of its share.
fn closure(main: &mut String, closure: &ClosureReport) {
    if closure.paths < 2 {
        return;
    }
    let _ =
        writeln!(main, "<section>\n<h2>Closure</h2>\n<p>{}. Its largest paths:</p>", sentence(&closure_size(closure)));
    main.push_str("<table>\n<tr><th>Path</th><th>Size</th><th>Share</th></tr>\n");
    let most = closure.largest.first().map_or(1, |path| path.nar_size).max(1);
    for part in &closure.largest {
        let tenths = |of: u64| u128::from(part.nar_size) * 1000 / u128::from(of.max(1));
        let (width, share) = (tenths(most), tenths(closure.nar_size));
        let _ = writeln!(
            main,
            "<tr><td>{}<svg viewBox=\"0 0 1000 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"{width}\" \
             height=\"8\"/></svg></td><td>{}</td><td>{}.{}%</td></tr>",
            short_link(&part.name),
            human_size(part.nar_size),
            share / 10,
            share % 10,
        );
    }
    main.push_str("</table>\n</section>\n");
}

fn footer(hash: HashPart, path: &StorePath, links: &Links) -> String {
    let mut footer = String::new();
    if links.files {
        let _ = writeln!(footer, "<a href=\"./{hash}\">files</a>");
    }
    let _ = writeln!(footer, "<a href=\"../{hash}.ls\">listing</a>\n<a href=\"../{hash}.narinfo\">narinfo</a>");
    if links.log {
        let _ = writeln!(footer, "<a href=\"../log/{}\">build log</a>", encode_segment(path.base_name().as_bytes()));
    }
    footer
}

/// Renders the name of a path, without its hash part, as a link to the page about it.
fn short_link(name: &str) -> String {
    let short = StorePath::from_base_name(name).map_or_else(|_| name.to_owned(), |path| path.name().to_owned());
    format!("<a href=\"./{}\" title=\"{}\">{}</a>", encode_segment(name.as_bytes()), escape(name), breakable(&short))
}

fn sentence(text: &str) -> String {
    text.strip_prefix("at least").map_or_else(|| text.to_owned(), |rest| format!("At least{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::handlers::path_facts::MAX_REFERENCES;
    use crate::http::path_report::PathSize;

    const HASH: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a";

    fn report() -> PathReport {
        PathReport {
            path: format!("/nix/store/{HASH}-hello"),
            nar_size: 2048,
            nar_hash: "sha256:0".to_owned(),
            deriver: None,
            references: Vec::new(),
            registration_time: None,
            ultimate: false,
            content_address: None,
            signatures: Vec::new(),
            trust: Trust::All,
            not_served: None,
            closure: ClosureReport { paths: 1, nar_size: 2048, incomplete: None, largest: Vec::new() },
            compressed: None,
        }
    }

    fn html(report: &PathReport) -> String {
        let path = StorePath::from_base_name(&format!("{HASH}-hello")).unwrap();
        render(&path, report, &Links { files: true, log: false }, "http://cache", &[])
    }

    #[test]
    fn whatever_nix_daemon_says_is_text() {
        let odd = "<script>alert(1)</script>\"'&";
        let signature = SignatureReport { key: odd.to_owned(), status: SignatureStatus::Unknown };
        let part = PathSize { name: odd.to_owned(), nar_size: u64::MAX };
        let plain = html(&report());
        let page = html(&PathReport {
            nar_hash: odd.to_owned(),
            deriver: Some(odd.to_owned()),
            references: vec![odd.to_owned()],
            content_address: Some(odd.to_owned()),
            signatures: vec![signature],
            closure: ClosureReport { paths: 2, nar_size: u64::MAX, incomplete: None, largest: vec![part] },
            ..report()
        });
        assert_eq!(page.matches("<script").count(), plain.matches("<script").count(), "{page}");
        assert!(page.contains("100.0%") && page.contains("<dt>Signed by</dt>"), "{page}");
    }

    #[test]
    fn an_incomplete_count_is_a_lower_bound() {
        let incomplete = Some(format!("/nix/store/{HASH}-secret is not served"));
        let closure = ClosureReport { paths: 2000, nar_size: 3 << 30, incomplete, largest: Vec::new() };
        let page = html(&PathReport { closure, ..report() });
        assert!(page.contains("At least 3.0 GiB in 2,000 paths") && !page.contains("secret"), "{page}");
    }

    #[test]
    fn no_more_references_are_shown_than_fit_into_a_page() {
        let references: Vec<_> = (0..600).map(|number| format!("{number:032}-path")).collect();
        let page = html(&PathReport { references, ..report() });
        assert_eq!(page.matches("<li>").count(), MAX_REFERENCES);
        assert!(page.contains("refers to 600 other paths") && page.contains("Only 500 of them"));
        let own = html(&PathReport { references: vec![format!("{HASH}-hello")], ..report() });
        assert!(own.contains("refers only to itself"), "{own}");
    }
}
