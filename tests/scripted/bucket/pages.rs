//! Pages about paths that another host has published.

use super::other_host::{OtherHost, item};
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;

#[test]
fn the_page_about_a_path_of_another_host_says_what_its_narinfo_says() {
    let other = OtherHost::new();
    let referenced = item(1, &[]);
    let theirs = item(2, &[&referenced]);
    other.publish(&[&referenced, &theirs]);
    let daemon = ScriptedDaemon::start(Script::knowing_no_path());
    let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), other.table()));
    let (http, hash) = (harmonia.http(), theirs.hash_part().to_owned());
    let page = http.get(&format!("/serve/{hash}-item"));
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let link = format!("href=\"./{}-item\"", referenced.hash_part());
    for part in ["Another host of this cache", "<dt>Signatures</dt>", &*link, &format!("{hash}.narinfo")] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
    for pasted in [format!("/{hash}"), format!("/serve/{hash}-other"), format!("/lookup?q={hash}")] {
        let response = http.get(&pasted);
        let to = response.header("location").unwrap_or_default();
        assert!(response.status == 302 && to.ends_with(&format!("{hash}-item")), "{pasted}: {to}");
    }
    assert_eq!(http.get(&format!("/serve/{:032}-item", 7)).status, 404);
    // Its files are not here.
    assert_eq!(http.get(&format!("/serve/{hash}/file")).status, 404);
}
