//! `/lookup`, a search form for paths, and `/browse`, an optional list of paths.

use crate::sample;
use crate::support::http::Response;
use crate::support::narinfo;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::{LAST, Wire};

/// Encodes text as a browser does in a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let one = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn look_up(text: &str) -> Response {
    sample::http().get(&format!("/lookup?q={}", encoded(text)))
}

#[test]
fn whatever_names_a_path_leads_to_its_page() {
    let path = sample::item("deep-tree").path.as_str();
    let (name, hash) = (path.strip_prefix("/nix/store/").unwrap(), hash_part(path));
    let narinfo = sample::narinfo("deep-tree");
    let nar_hash = narinfo::value(&narinfo, "NarHash");
    for text in [
        path,
        &format!("  {path}/ \n"),
        name,
        hash,
        &format!("https://other.example/{hash}.narinfo"),
        &format!("{}/{}", sample::server().url(), narinfo::value(&narinfo, "URL")),
        nar_hash,
        nar_hash.strip_prefix("sha256:").unwrap(),
    ] {
        let response = look_up(text);
        assert_eq!(
            (response.status, response.header("location")),
            (302, Some(&*format!("./serve/{name}"))),
            "{text:?}"
        );
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    let within = look_up(&format!("{path}/a/b c"));
    assert_eq!(within.header("location"), Some(&*format!("./serve/{hash}/a/b%20c")));
}

#[test]
fn input_that_names_no_path_gets_a_page_that_helps_and_repeats_it_as_text() {
    let absent = "99999999999999999999999999999999";
    for (text, status, why) in [
        ("", 200, "What can be looked up"),
        ("hello", 400, "no hash of a store path"),
        (absent, 404, "no store path with this hash"),
        (&*format!("/nix/store/{absent}-x"), 404, "no store path with this hash"),
        (&*"0".repeat(52), 404, "no store path with this hash"),
        (&*format!("/gnu/store/{absent}-x"), 404, "serves paths of <code>/nix/store</code> only"),
        ("\"><script>alert(1)</script>", 400, "&quot;&gt;&lt;script&gt;"),
        ("%00\u{1}\u{202e}", 400, "no hash of a store path"),
        (&*"x".repeat(6000), 400, "no hash of a store path"),
        (&*format!("/nix/store/{absent}-x/../../etc/passwd"), 400, "no hash of a store path"),
    ] {
        let response = look_up(text);
        let html = response.text();
        assert_eq!(response.status, status, "{text:?}");
        assert!(html.contains(why) && !html.contains("<script>alert"), "{text:?}: {html}");
        assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(response.header("content-security-policy").unwrap().contains("form-action 'self'"));
    }
    for target in ["/lookup", "/lookup?q", "/lookup?x=1", "/lookup?q=%ff%fe", "/lookup?q=%"] {
        assert!([200, 400].contains(&sample::http().get(target).status), "{target}");
    }
    let head = sample::http().head("/lookup?q=hello");
    assert!(head.status == 400 && head.body.is_empty() && head.header("content-length").is_some());
}

#[test]
fn a_daemon_that_is_away_is_no_miss() {
    let harmonia = Harmonia::start("daemon_socket = \"/nonexistent\"\n");
    assert_eq!(harmonia.http().get("/lookup?q=99999999999999999999999999999999").status, 502);
}

fn scripted(count: usize) -> ScriptedDaemon {
    let items: Vec<_> = (0..count)
        .map(|number| {
            let mut item = StoreItem::file_of(1000 + number);
            item.path =
                format!("/nix/store/{number:032}-{}-{:03}", if number % 2 == 0 { "even" } else { "odd" }, number);
            item
        })
        .collect();
    let all: Vec<_> = items.iter().map(|item| item.path.clone()).collect();
    ScriptedDaemon::start(Script::replying(move |query| match query {
        Query::AllPaths => Wire::new().number(LAST).strings(&all).into(),
        query => StoreItem::reply_among(&items, query).unwrap_or_else(|| items[0].reply(query)),
    }))
}

#[test]
fn paths_are_listed_only_where_that_is_wanted() {
    let daemon = scripted(1);
    let harmonia = Harmonia::start(&daemon.config());
    let (listed, unknown) = (harmonia.http().get("/browse"), harmonia.http().get("/no-such-page"));
    assert_eq!((listed.status, listed.text()), (404, unknown.text()));
    assert!(!harmonia.http().get("/").text().contains("browse"));
}

#[test]
fn the_list_is_by_name_and_page_by_page() {
    let daemon = scripted(130);
    let harmonia = Harmonia::start(&format!("{}browse = true\n", daemon.config()));
    assert!(harmonia.http().get("/").text().contains("href=\"browse\""));
    let (mut target, mut pages, mut names) = ("/browse?q=EVEN".to_owned(), 0, Vec::new());
    loop {
        let page = harmonia.http().get(&target);
        assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")));
        let html = page.text();
        let rows = html.split("<a href=\"./serve/").skip(1).map(|row| row[33..].split('"').next().unwrap().to_owned());
        names.extend(rows);
        pages += 1;
        let next = html.split("rel=\"next\"").next().unwrap().rsplit("href=\"./").next().unwrap();
        if !html.contains("rel=\"next\"") {
            break;
        }
        target = format!("/{}", next.split('"').next().unwrap().replace("&amp;", "&"));
    }
    let expected: Vec<_> = (0..130).step_by(2).map(|number| format!("even-{number:03}")).collect();
    assert_eq!((pages, names), (2, expected));
    for target in
        ["/browse?q=nothing", "/browse?from=999", "/browse?from=-1", &format!("/browse?q={}", "x".repeat(3000))]
    {
        assert_eq!(harmonia.http().get(target).status, 200, "{target}");
    }
    let hostile = harmonia.http().get("/browse?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E");
    assert!(hostile.status == 200 && !hostile.text().contains("<script>alert"), "{}", hostile.text());
}
