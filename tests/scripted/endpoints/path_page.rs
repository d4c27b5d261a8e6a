//! `/serve/<hash>-<name>`, the page of a path, and the redirects to it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::http::Response;
use crate::support::keys;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::{LAST, Wire};

/// Hash part that no path has.
const ABSENT: &str = "99999999999999999999999999999999";

fn base(path: &str) -> &str {
    path.strip_prefix("/nix/store/").unwrap()
}

fn numbered(number: usize) -> String {
    format!("/nix/store/{number:032}-path-{number}")
}

/// Returns the path of this number, with a NAR whose size depends on the number, and with these references.
fn item(number: usize, references: &[usize]) -> StoreItem {
    let mut item = StoreItem::file_of(1000 * (number + 1));
    item.path = numbered(number);
    item.references = references.iter().map(|number| numbered(*number)).collect();
    item
}

fn served_items(items: Vec<StoreItem>, config: &str) -> (ScriptedDaemon, Harmonia) {
    let all = items.iter().map(|item| item.path.clone()).collect::<Vec<_>>();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
        Query::AllPaths => Wire::new().number(LAST).strings(&all).into(),
        query => StoreItem::reply_among(&items, query).unwrap_or_else(|| items[0].reply(query)),
    }));
    let harmonia = Harmonia::start(&format!("{}{config}", daemon.config()));
    (daemon, harmonia)
}

fn page(harmonia: &Harmonia, path: &str) -> Response {
    harmonia.http().get(&format!("/serve/{}", base(path)))
}

#[test]
fn what_people_paste_leads_to_the_page_or_the_file() {
    let real = scratch::fresh_dir();
    let item = item(1, &[]);
    fs::create_dir_all(real.join(base(&item.path)).join("bin")).unwrap();
    fs::write(real.join(base(&item.path)).join("bin/tool"), "a tool").unwrap();
    let (_daemon, harmonia) = served_items(vec![item.clone()], &format!("real_nix_store = \"{}\"\n", real.display()));
    let (name, hash) = (base(&item.path), item.hash_part());
    let page = format!("serve/{name}");
    for (target, location) in [
        (format!("/nix/store/{name}"), format!("../../{page}")),
        (format!("/nix/store/{name}/"), format!("../../../{page}")),
        (format!("/{name}"), format!("./{page}")),
        (format!("/{hash}"), format!("./{page}")),
        (format!("/nix/store/{name}/bin/tool"), format!("../../../../serve/{hash}/bin/tool")),
        (format!("/serve/{name}/bin/tool"), format!("../../../serve/{hash}/bin/tool")),
        // The name was cut, or is another one.
        (format!("/serve/{hash}-x"), format!("./{name}")),
    ] {
        let response = harmonia.http().get(&target);
        assert_eq!((response.status, response.header("location")), (302, Some(&*location)), "{target}");
    }
    assert_eq!(harmonia.http().get(&format!("/serve/{hash}/bin/tool")).text(), "a tool");
    assert!(self::page(&harmonia, &item.path).text().contains(&format!("<a href=\"./{hash}\">files</a>")));
    for target in [format!("/gnu/store/{name}"), format!("/nix/{name}"), format!("/{ABSENT}"), format!("/x/{hash}")] {
        assert_eq!(harmonia.http().get(&target).status, 404, "{target}");
    }
}

#[test]
fn the_page_has_a_tag_that_changes_with_it_and_answers_head() {
    let (_daemon, harmonia) = served_items(vec![item(0, &[0, 1]), item(1, &[0])], &nar_cache_on_demand());
    let target = format!("/serve/{}", base(&numbered(0)));
    let whole = harmonia.http().get(&target);
    let tag = whole.header("etag").unwrap();
    assert_eq!((whole.status, whole.header("cache-control")), (200, Some("public, no-cache")));
    let head = harmonia.http().head(&target);
    assert_eq!((head.header("content-length"), head.header("etag")), (whole.header("content-length"), Some(tag)));
    let again = harmonia.http().get_with(&target, &[("If-None-Match", tag)]);
    assert_eq!((again.status, again.body.len()), (304, 0));
    let zstd = harmonia.http().get_with(&target, &[("Accept-Encoding", "zstd")]);
    assert_eq!(zstd.header("content-encoding"), Some("zstd"));
    // Another URL of the cache is another page.
    let other = harmonia.http().get_with(&target, &[("X-Forwarded-Host", "cache.example.org"), ("If-None-Match", tag)]);
    assert!(other.status == 200 && other.text().contains("http://cache.example.org"), "{}", other.text());
    for (header, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")] {
        assert_eq!(whole.header(header), Some(value));
    }
    let policy = whole.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn a_closure_that_refers_to_itself_is_counted_once_and_shown_by_its_largest_parts() {
    // Each refers to itself and to all others.
    let all: Vec<_> = (0..40).collect();
    let (_daemon, harmonia) = served_items(all.iter().map(|number| item(*number, &all)).collect(), "");
    let html = page(&harmonia, &numbered(0)).text().to_owned();
    assert!(html.contains(" in 40 paths") && html.contains("refers to 39 other paths, and to itself"), "{html}");
    let rows: Vec<_> = html.split("title=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let largest: Vec<_> = (28..40).rev().map(|number| base(&numbered(number)).to_owned()).collect();
    assert_eq!(rows, largest);
}

#[test]
fn a_daemon_that_fails_in_the_middle_leaves_at_least_what_was_counted() {
    let items: Vec<_> = (0..10).map(|number| item(number, &[number, number + 1])).collect();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
        Query::PathInfo(path) if *path == numbered(5) => Reply::then_disconnect([]),
        Query::PathFromHashPart(hash) if hash == hash_part(&numbered(5)) => Reply::then_disconnect([]),
        query => StoreItem::reply_among(&items, query).unwrap_or_else(|| items[0].reply(query)),
    }));
    let harmonia = Harmonia::start(&daemon.config());
    let response = page(&harmonia, &numbered(0));
    assert_eq!(response.status, 200);
    assert!(response.text().contains("At least ") && response.text().contains(" in 5 paths"), "{}", response.text());
    // The path itself cannot be told of at all.
    assert_eq!(page(&harmonia, &numbered(5)).status, 502);
}

#[test]
fn a_hidden_path_looks_absent_on_every_page() {
    let public = keys::FOREIGN.public.clone();
    let mut visible = item(0, &[0, 1]);
    visible.signatures = vec![keys::FOREIGN.sign(visible.fingerprint().as_bytes())];
    let hidden = item(1, &[2]);
    let mut behind = item(2, &[]);
    behind.signatures = vec![keys::FOREIGN.sign(behind.fingerprint().as_bytes())];
    let trusting =
        format!("sign = \"trusted\"\ntrusted_public_keys = [\"{public}\"]\nserve_untrusted = false\nbrowse = true\n");
    let (_daemon, harmonia) = served_items(vec![visible, hidden.clone(), behind], &trusting);
    let seen = |response: Response, hash: &str, name: &str| {
        let plain = |text: &str| text.replace(hash, "HASH").replace(name, "NAME");
        let headers = response.headers.iter().filter(|(name, _)| name != "date");
        let headers: Vec<_> = headers.map(|(name, value)| (name.clone(), plain(value))).collect();
        (response.status, headers, plain(response.text()))
    };
    let (name, absent) = (base(&hidden.path), format!("{ABSENT}-path-9"));
    for target in [
        "/serve/NAME",
        "/serve/NAME/",
        "/HASH",
        "/NAME",
        "/nix/store/NAME",
        "/nix/store/NAME/x",
        "/lookup?q=NAME",
        "/lookup?q=HASH",
    ] {
        let ask = |name: &str| {
            let target = target.replace("NAME", name).replace("HASH", &name[..32]);
            seen(harmonia.http().get(&target), &name[..32], &name[33..])
        };
        assert_eq!(ask(name), ask(&absent), "{target}");
    }
    // Nor is it told of by those that refer to it, but for its name, which their narinfos have too.
    let html = page(&harmonia, &numbered(0)).text().to_owned();
    assert!(html.contains("at least") && html.contains(" in 1 path;") && !html.contains(base(&numbered(2))), "{html}");
    let listed = harmonia.http().get("/browse?q=path-1").text().to_owned();
    assert_eq!(listed, harmonia.http().get("/browse?q=path-9").text().replace("path-9", "path-1"));
    assert!(harmonia.http().get("/browse?q=path-").text().matches("<tr>").count() == 3);
}

#[test]
fn a_path_whose_nar_is_wrong_has_no_page() {
    let item = StoreItem::file(b"contents");
    let is_wrong = Arc::new(AtomicBool::new(true));
    let (wrong, truth) = (Arc::clone(&is_wrong), item.clone());
    let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
        Query::Nar(_) if wrong.load(Ordering::Relaxed) => {
            let mut nar = truth.nar.clone();
            let middle = nar.len() / 2;
            nar[middle] ^= 1;
            Wire::new().number(LAST).raw(&nar).into()
        }
        query => truth.reply(query),
    }));
    let harmonia = Harmonia::start(&daemon.config());
    assert_eq!(page(&harmonia, &item.path).status, 200);
    let _ = harmonia
        .http()
        .request(format!("GET {} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n", item.nar_url()).as_bytes());
    harmonia.wait_for_log("(answering 404)");
    assert_eq!(page(&harmonia, &item.path).status, 404);
}
