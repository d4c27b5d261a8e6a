//! Buckets with Nix's own layout, as real clients read them without harmonia: a binary cache that `nix copy` wrote to a
//! directory, put into the bucket by signed requests.

use std::fs;
use std::sync::LazyLock;

use crate::nix::client::{Client, nar_hashes};
use crate::nix::content::Content;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::engine::{Engine, Kind};
use crate::support::keys;

/// Content with references and without. Nix cannot list names that are not UTF-8, as in `odd-entries`.
const NAMES: [&str; 4] = ["self-reference", "deep-tree", "text-with-reference", "odd-name"];

/// A store, and the same as a binary cache in a directory.
struct Written {
    prefix: Prefix,
    content: Content,
}

/// With zstd, which is what harmonia publishes.
static WRITTEN: LazyLock<Written> = LazyLock::new(|| {
    let prefix = Prefix::new(Release::Nix2_34, &["substitute = false".to_owned()]);
    let content = Content::populate(&prefix);
    fs::copy(&keys::OURS.secret, prefix.on_host("/nix/etc/secret")).unwrap();
    let cache = "file:///nix/layout?compression=zstd&write-nar-listing=true&secret-key=/nix/etc/secret";
    let paths = NAMES.map(|name| content.path(name));
    let _ = prefix.run(&[&["nix", "copy", "--to", cache], &paths[..]].concat()).stdout();
    Written { prefix, content }
});

/// Puts the binary cache into an engine's bucket, NARs first.
fn publish(engine: &Engine) {
    let (s3, directory) = (engine.s3(), WRITTEN.prefix.on_host("/nix/layout"));
    for below in ["nar/", ""] {
        for file in fs::read_dir(directory.join(below)).unwrap().map(|entry| entry.unwrap().path()) {
            if file.is_file() {
                let key = format!("{below}{}", file.file_name().unwrap().to_str().unwrap());
                assert_eq!(s3.put(&key, &fs::read(&file).unwrap()).status, 200, "{key}");
            }
        }
    }
}

/// Copies everything from the binary cache at this URL with an empty client, which verifies signatures and contents.
fn reads_everything(release: Release, url: &str) {
    let Written { prefix, content } = &*WRITTEN;
    let paths = NAMES.map(|name| content.path(name));
    let client = Client::new(release, url, &[&keys::OURS]);
    let _ = client.copy(&paths).stdout();
    let _ = client.verified_closure(&paths);
    assert_eq!(client.nar_hashes(&paths), prefix.run(&nar_hashes(&paths)).text());
    // By the listing, where there is one.
    let listed = client.nix_store("ls", &[content.path("deep-tree")]).text();
    assert!(listed.contains("level-0"), "{listed}");
    let _ = client.copy(&["/nix/store/00000000000000000000000000000000-missing"]).failure();
}

/// Returns the URL by which Nix reads the bucket as an S3 store, without a signature. The endpoint may be a URL, with a path.
fn s3_url(public_url: &str) -> String {
    let (endpoint, bucket) = public_url.rsplit_once('/').unwrap();
    format!("s3://{bucket}?endpoint={endpoint}&region=us-east-1")
}

/// Releases that know zstd.
const KNOW_ZSTD: [Release; 3] = [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34];

#[test]
fn releases_that_know_zstd_read_a_bucket_of_swift_by_its_public_url() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    publish(swift);
    for release in KNOW_ZSTD {
        reads_everything(release, swift.public_url());
    }
}

#[test]
fn releases_that_know_zstd_read_a_bucket_of_rclone_by_http() {
    let Some(rclone) = Engine::shared(Kind::Rclone) else { return };
    publish(rclone);
    for release in KNOW_ZSTD {
        reads_everything(release, rclone.public_url());
    }
}

#[test]
fn nix_2_3_does_not_know_zstd() {
    let Some(rclone) = Engine::shared(Kind::Rclone) else { return };
    publish(rclone);
    let client = Client::new(Release::Nix2_3, rclone.public_url(), &[&keys::OURS]);
    let reason = client.copy(&[WRITTEN.content.path("deep-tree")]).failure();
    assert!(reason.contains("unknown compression method 'zstd'"), "{reason}");
}

#[test]
fn nix_2_34_reads_a_public_bucket_by_its_s3_url() {
    for kind in [Kind::Swift, Kind::Rclone, Kind::Moto] {
        let Some(engine) = Engine::shared(kind) else { continue };
        publish(engine);
        reads_everything(Release::Nix2_34, &s3_url(engine.public_url()));
    }
}

#[test]
fn nix_2_34_without_keys_does_not_read_a_bucket_that_is_not_public() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let Some(rclone) = Engine::shared(Kind::Rclone) else { return };
    publish(rclone);
    // Swift's S3 API, unlike its own, has nothing for whoever signs nothing.
    for engine in [swift, rclone] {
        let private = s3_url(&format!("{}/{}", engine.endpoint(), engine.bucket()));
        let client = Client::new(Release::Nix2_34, &private, &[&keys::OURS]);
        let reason = client.copy(&[WRITTEN.content.path("deep-tree")]).failure();
        assert!(reason.contains("HTTP error 400"), "{reason}");
    }
}

#[test]
fn releases_before_2_34_have_no_s3() {
    for release in [Release::Nix2_3, Release::Nix2_8, Release::Nix2_26] {
        let client = Client::new(release, "s3://cache?endpoint=127.0.0.1:1&scheme=http", &[&keys::OURS]);
        let reason = client.copy(&["/nix/store/00000000000000000000000000000000-missing"]).failure();
        assert!(reason.contains("don't know how to open Nix store"), "{release}: {reason}");
    }
}

#[test]
fn nix_2_34_writes_its_layout_to_a_bucket_of_rclone_that_anybody_may_write_to() {
    let Some(rclone) = Engine::start(Kind::Rclone) else { return };
    let url = format!("{}&compression=zstd&secret-key=/nix/etc/secret", s3_url(rclone.public_url()));
    let path = WRITTEN.content.path("text-with-reference");
    let _ = WRITTEN.prefix.run(&["nix", "copy", "--to", &url, path]).stdout();
    assert!(rclone.data().join("nix-cache-info").is_file());
    let client = Client::new(Release::Nix2_26, rclone.public_url(), &[&keys::OURS]);
    let _ = client.copy(&[path]).stdout();
    assert_eq!(client.verified_closure(&[path]).len(), 2);
}
