//! `/debuginfo/…` with a real store.

use std::fs;

use harmonia_protocol::nar::{Name, Node};
use serde_json::{Value, json};

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::debug_info::{ID, OTHER, member, url};
use crate::support::http::{Http, Response};
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

fn parsed(response: &Response) -> Value {
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    serde_json::from_slice(&response.body).unwrap()
}

/// Adds a path with the debug info of this build to the daemon's store.
fn add(daemon: &Daemon, name: &str, id: &str, contents: &str) -> String {
    let source = format!("/nix/tmp/{name}");
    let file = daemon.on_host(&source).join(member(id));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, contents).unwrap();
    daemon.run(&["nix-store", "--add", &source]).text()
}

fn before(daemon: &Daemon) -> Harmonia {
    let (socket, store) = (daemon.socket(), daemon.on_host("/nix/store"));
    Harmonia::start(&format!(
        "daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\ngc_protection = 0\n",
        socket.display(),
        store.display()
    ))
}

/// Fetches the file in a NAR to which a response refers, as debuggers do.
fn fetched(http: Http, answer: &Value) -> Vec<u8> {
    let archive = answer["archive"].as_str().unwrap().strip_prefix("..").expect("not relative to /debuginfo/");
    assert!(archive.starts_with("/nar/") && archive.split_once('.').unwrap().1 == "nar", "{archive}");
    let nar = http.get(archive);
    assert_eq!((nar.status, nar.header("content-encoding")), (200, None));
    let root = Node::parse(&nar.body).unwrap();
    let mut node = &root;
    for name in answer["member"].as_str().unwrap().split('/') {
        let Node::Directory(entries) = node else { panic!("{name} is in no directory") };
        node = entries.get(&Name::new(name.as_bytes()).unwrap()).expect("the member is not in the archive");
    }
    let Node::Regular { contents, .. } = node else { panic!("the member is no file") };
    contents.to_vec()
}

#[test]
fn both_urls_lead_to_the_file_in_a_plain_nar_while_its_path_is_valid() {
    let daemon = Daemon::start(Release::Nix2_34);
    let first = add(&daemon, "first-debug", ID, "debug info of the first");
    let harmonia = before(&daemon);
    let http = harmonia.http();
    let answer = http.get(&url(ID));
    assert_eq!(answer.body, http.get(&format!("/debuginfo/{ID}.debug")).body);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
    let answer = parsed(&answer);
    assert_eq!((answer.as_object().unwrap().len(), &answer["member"]), (2, &json!(member(ID))));
    assert!(answer["archive"].as_str().unwrap().contains(hash_part(&first)));
    assert_eq!(fetched(http, &answer), b"debug info of the first");
    let head = http.head(&url(ID));
    assert_eq!((head.status, head.body.len()), (200, 0));

    // A path that is added later is found by the next request.
    let miss = http.get(&url(OTHER));
    assert_eq!((miss.status, miss.header("cache-control")), (404, Some("no-store")));
    let second = add(&daemon, "second-debug", OTHER, "debug info of the second");
    assert_eq!(fetched(http, &parsed(&http.get(&url(OTHER)))), b"debug info of the second");

    // The debug info of a deleted path is only found in another path.
    let _ = daemon.run(&["nix-store", "--delete", &second]).stdout();
    assert_eq!(http.get(&url(OTHER)).status, 404);
    let again = add(&daemon, "again-debug", ID, "debug info of the first");
    assert_eq!(http.get(&url(ID)).status, 200);
    let _ = daemon.run(&["nix-store", "--delete", &first]).stdout();
    let answer = parsed(&http.get(&url(ID)));
    assert!(answer["archive"].as_str().unwrap().contains(hash_part(&again)));
    assert_eq!(fetched(http, &answer), b"debug info of the first");
}
