//! A host without a store.

use super::other_host::{OtherHost, item, until};
use crate::support::server::Harmonia;

#[test]
fn a_host_without_a_store_serves_what_others_have_published() {
    let (other, theirs) = (OtherHost::new(), item(2, &[]));
    other.publish(&[&theirs]);
    let harmonia = Harmonia::start(&format!("daemon_socket = \"none\"\n{}", other.table()));
    harmonia.wait_for_log("no nix-daemon: only paths of other hosts are served");
    let http = harmonia.http();
    assert_eq!(http.get(&theirs.narinfo_url()).status, 200);
    assert_eq!(http.get(&item(3, &[]).narinfo_url()).status, 404);
    for url in ["/nix-cache-info", "/", "/health", "/metrics"] {
        assert_eq!(http.get(url).status, 200, "{url}");
    }
    let hash = item(3, &[]).hash_part().to_owned();
    for url in [
        format!("/{hash}.ls"),
        format!("/log/{hash}-item.drv"),
        format!("/serve/{hash}/"),
        format!("/debuginfo/{}", "ab".repeat(20)),
        format!("/realisations/sha256:{}!out.doi", "7b".repeat(32)),
        format!("/nar/{hash}-{}.nar", item(3, &[]).nar_hash_in_nix32()),
    ] {
        assert_eq!(http.get(&url).status, 404, "{url}");
    }
    until(|| http.get("/ready").status == 200);
}

#[test]
fn a_host_without_a_store_is_not_ready_while_the_bucket_is_away() {
    let bucket =
        "[bucket]\nurl = \"s3://cache\"\nhost = \"own\"\nendpoint = \"http://127.0.0.1:1\"\nallow_http = true\n";
    let harmonia = Harmonia::start(&format!("daemon_socket = \"none\"\n{bucket}"));
    let ready = harmonia.http().get("/ready");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.body, b"the object store of this cache is unreachable\n");
}
