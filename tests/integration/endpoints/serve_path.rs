//! `/serve/…`: the files of store paths, and protection from path traversal and active content.

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

#[test]
fn the_content_of_a_real_store_is_what_lies_in_it() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let real = daemon.on_host("/nix/store");
    let harmonia = Harmonia::start(&format!(
        "daemon_socket = {:?}\nreal_nix_store = {real:?}\n",
        daemon.socket().to_str().unwrap()
    ));
    let get = |name: &str, below: &str| {
        let hash = hash_part(daemon.content().path(name));
        harmonia.http().get(&format!("/serve/{hash}{below}"))
    };
    let bottom = (0..60).map(|level| format!("level-{level}/")).collect::<Vec<_>>().concat();
    assert_eq!(get("deep-tree", &format!("/{bottom}bottom")).text(), "deep\n");
    assert_eq!(get("odd-entries", "/latin-1%20%E9").body, b"latin-1 \xe9");
    assert_eq!(get("odd-entries", "/back%5cslash").text(), "back\\slash");
    assert_eq!(get("odd-entries", "/a/link").text(), "größe");
    assert_eq!(get("odd-name", "").text(), "of an odd name\n");
    assert_eq!(get("symlink", "").status, 404);
    let page = get("odd-entries", "/");
    let links = page.text().matches("href=\"./").count();
    assert_eq!((page.status, links), (200, 16));
}
