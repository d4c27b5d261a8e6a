//! `bucket.publish = "all"` and `"served"`.

use super::{Host, is_read_by, names};
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::metrics::await_value;
use crate::support::scratch;
use crate::support::store_item::hash_part;

#[test]
fn all_valid_paths_are_published_and_new_ones_too() {
    let (daemon, bucket) = (Daemon::start(Release::Nix2_34), scratch::fresh_dir().join("bucket"));
    let mut host = Host::start("a", &daemon, &bucket, "bucket.publish = \"all\"\n");
    let is_there = |path: &str| bucket.join(format!("{}.narinfo", hash_part(path))).exists();
    let paths: Vec<_> = daemon.content().iter().map(|(_, path)| path.to_owned()).collect();
    wait_until("all paths are published", || paths.iter().filter(|path| is_there(path)).count() + 2 >= paths.len());
    await_value(host.harmonia.http(), "harmonia_bucket_queued_paths", 0.0);
    let new = daemon.run(&["nix-store", "--add", "/proc/self/status"]).text();
    let new = new.trim();
    wait_until("a new path is published", || is_there(new));
    is_read_by(Release::Nix2_34, &bucket, &daemon, &[new]);
    // The bucket is lost, and published again from the store.
    std::fs::remove_dir_all(&bucket).unwrap();
    host.restart();
    wait_until("the bucket is filled again", || is_there(new));
}

#[test]
fn what_is_served_is_published() {
    let (daemon, bucket) = (Daemon::shared(Release::Nix2_34), scratch::fresh_dir().join("bucket"));
    let host = Host::start("a", daemon, &bucket, "bucket.publish = \"served\"\n");
    let path = daemon.content().path("text-with-reference");
    assert_eq!(host.harmonia.http().get(&format!("/{}.narinfo", hash_part(path))).status, 200);
    wait_until("it is published", || bucket.join(format!("{}.narinfo", hash_part(path))).exists());
    is_read_by(Release::Nix2_34, &bucket, daemon, &[path]);
    assert!(names(&bucket, "harmonia/v1/hosts").contains(&"a.json".to_owned()));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed().as_secs() < 120, "{what}: not within two minutes");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
