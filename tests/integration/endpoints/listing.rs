//! `/<hash>.ls`, compared with the listing that Nix writes.

use serde_json::{Value, json};

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server::{self, http};
use crate::support::http::Response;
use crate::support::store_item::hash_part;

fn url(name: &str) -> String {
    format!("/{}.ls", hash_part(shared_server::content().path(name)))
}

fn parsed(response: &Response) -> Value {
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    serde_json::from_slice(&response.body).unwrap()
}

/// Returns the listing that Nix writes when it copies a path to a binary cache.
fn nixs_own(daemon: &Daemon, name: &str) -> Value {
    let path = shared_server::content().path(name);
    let cache = format!("file:///nix/tmp/cache-{name}");
    let _ = daemon
        .run(&["nix", "copy", "--to", &format!("{cache}?write-nar-listing=true&compression=none"), path])
        .stdout();
    let file = daemon.on_host(&format!("{}/{}.ls", &cache["file://".len()..], hash_part(path)));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// Adds `executable: false`, which Nix omits.
fn with_every_executable(listing: &mut Value) {
    let Some(node) = listing.as_object_mut() else { return };
    if node.get("type") == Some(&json!("regular")) {
        node.entry("executable").or_insert(json!(false));
    }
    node.values_mut().for_each(with_every_executable);
}

#[test]
fn a_listing_equals_the_one_that_nix_writes() {
    let daemon = Daemon::shared(Release::Nix2_34);
    for name in ["regular", "executable", "empty-file", "symlink", "empty-directory", "deep-tree", "large"] {
        let mut expected = nixs_own(daemon, name);
        with_every_executable(&mut expected);
        assert_eq!(parsed(&http().get(&url(name))), expected, "{name}");
    }
}
