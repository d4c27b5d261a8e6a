//! `harmonia bucket publish`.

use super::{Host, is_read_by, names, says};
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::scratch;
use crate::support::store_item::hash_part;

/// Content with references and without, and a directory whose listing is long.
const NAMES: [&str; 3] = ["self-reference", "deep-tree", "text-with-reference"];
const ABSENT: &str = "/nix/store/00000000000000000000000000000000-absent";

#[test]
fn a_published_closure_is_read_by_plain_nix_from_the_bucket() {
    let (daemon, bucket) = (Daemon::shared(Release::Nix2_34), scratch::fresh_dir().join("bucket"));
    let host = Host::start("a", daemon, &bucket, "");
    let paths = NAMES.map(|name| daemon.content().path(name));
    says(&host.bucket(&[&["publish"], &paths[..]].concat()), 0, "published 3 paths");
    for release in [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34] {
        is_read_by(release, &bucket, daemon, &paths);
    }
    assert!(paths.iter().all(|path| bucket.join(format!("{}.ls", hash_part(path))).exists()));
    // Again, and by another host: nothing is sent.
    says(&host.bucket(&["publish", paths[0]]), 0, "0 B sent");
    let before = names(&bucket, "nar");
    let other = Host::start("b", daemon, &bucket, "");
    says(&other.bucket(&[&["publish"], &paths[..]].concat()), 0, "0 B sent");
    assert_eq!(names(&bucket, "nar"), before);
}

#[test]
fn what_cannot_be_published_is_named_with_its_reason() {
    let (daemon, bucket) = (Daemon::shared(Release::Nix2_34), scratch::fresh_dir().join("bucket"));
    let host = Host::start("a", daemon, &bucket, "sign = \"trusted\"\ntrusted_public_keys = []\n");
    let path = daemon.content().path("deep-tree");
    says(&host.bucket(&["publish", ABSENT]), 65, &format!("not publishing {}: it is not valid", hash_part(ABSENT)));
    let _ = host.bucket(&["publish", path]);
    says(&host.bucket(&["status"]), 0, "narinfos");
}

#[test]
fn a_server_without_a_bucket_says_so() {
    let (daemon, bucket) = (Daemon::shared(Release::Nix2_34), scratch::fresh_dir().join("bucket"));
    let host = Host::start("a", daemon, &bucket, "");
    drop(host.harmonia);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_harmonia"))
        .args(["--config", host.config.to_str().unwrap(), "bucket", "publish", ABSENT])
        .output()
        .unwrap();
    says(&output, 69, "no harmonia server is listening");
}
