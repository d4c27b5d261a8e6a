//! `/serve/<hash>-<name>`, the page of a path, and the redirects to it.

use crate::nix::client::Client;
use crate::nix::release::Release;
use crate::nix::shared_server;
use crate::support::keys;
use crate::support::narinfo;

fn base(path: &str) -> &str {
    path.strip_prefix("/nix/store/").unwrap()
}

#[test]
fn the_page_tells_what_a_real_daemon_knows_and_its_links_lead_somewhere() {
    let http = shared_server::http();
    let path = shared_server::content().path("many-references");
    let response = http.get(&format!("/serve/{}", base(path)));
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let html = response.text();
    let narinfo = shared_server::narinfo("many-references");
    let (nar_hash, size) = (narinfo::value(&narinfo, "NarHash"), narinfo::value(&narinfo, "NarSize"));
    assert!(html.contains(path) && html.contains(nar_hash) && html.contains("in 301 paths"), "{size} {html}");
    assert!(html.contains("refers to 300 other paths"), "{html}");
    assert!(html.contains(&format!("<code>{}</code> (this cache)", keys::OURS.name)), "{html}");
    let links: Vec<_> = html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    for link in links.iter().take(20).chain(links.iter().rev().take(3)) {
        let target = match link.strip_prefix("../") {
            Some(above) => format!("/{above}"),
            None => format!("/serve/{}", link.strip_prefix("./").unwrap()),
        };
        assert!([200, 301].contains(&http.get(&target).status), "{link}");
    }
    // There is no log of what was not built, and the files are not visible to this server.
    assert!(!html.contains("build log") && !html.contains(">files<") && html.contains(">listing<"), "{html}");
}

#[test]
fn the_commands_of_the_page_copy_the_path() {
    let path = shared_server::content().path("many-references");
    for release in Release::ALL {
        let response = shared_server::http().get(&format!("/serve/{}", base(path)));
        let boxes = response.text().split("<pre><code>").skip(1);
        let boxes: Vec<_> = boxes.map(|rest| rest.split("</code>").next().unwrap().replace("&#39;", "'")).collect();
        let [shown, copy, realise] = &boxes[..] else { panic!("{boxes:?}") };
        assert_eq!(shown, path);
        for command in [copy, realise] {
            if release == Release::Nix2_3 && command == copy {
                continue;
            }
            let client = Client::new(release, "http://nowhere.invalid", &[]);
            let words = command.replace("\\\n", " ");
            let words: Vec<_> = words.split_whitespace().map(|word| word.trim_matches('\'')).collect();
            client.run(&words).text();
            assert!(client.has(path), "{release}: {command}");
        }
    }
}
