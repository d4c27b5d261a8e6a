//! `harmonia bucket publish`.

use super::{Host, is_read_by, names, says};
use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::scratch;
use crate::support::store_item::{hash_part, noise};

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
fn a_post_build_hook_names_paths_on_standard_input() {
    let (daemon, bucket) = (Daemon::shared(Release::Nix2_34), scratch::fresh_dir().join("bucket"));
    let host = Host::start("a", daemon, &bucket, "");
    let hook = |paths: &str| {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_harmonia"));
        std::process::Command::new("/bin/sh")
            .args(["-c", "printf '%s\\n' $OUT_PATHS | harmonia bucket publish --stdin"])
            .env("PATH", format!("{}:/usr/bin:/bin", program.parent().unwrap().display()))
            .env("CONFIG_FILE", &host.config)
            .env("OUT_PATHS", paths)
            .output()
            .unwrap()
    };
    let paths = NAMES.map(|name| daemon.content().path(name));
    says(&hook(&paths.join(" ")), 0, "published 3 paths");
    is_read_by(Release::Nix2_34, &bucket, daemon, &paths);
    says(&hook(&format!("{} {ABSENT}", paths[0])), 65, &format!("not publishing {}: ", hash_part(ABSENT)));
    says(&hook(""), 0, "published 0 paths");
    says(&hook("/etc"), 65, "/etc is neither a store path nor a link to one");
}

#[test]
fn uploads_into_a_directory_keep_to_the_rate() {
    const RATE: u64 = 500_000;
    let prefix = Prefix::new(Release::Nix2_34, &["substitute = false".to_owned()]);
    let (daemon, bucket) = (Daemon::on(prefix, Content::default()), scratch::fresh_dir().join("bucket"));
    let host = Host::start("a", &daemon, &bucket, &format!("bucket.max_upload_rate = {RATE}\n"));
    let mut arguments = vec!["publish".to_owned()];
    for number in 0..6 {
        let file = format!("/nix/noise-{number}");
        std::fs::write(daemon.on_host(&file), noise(250_000 + number)).unwrap();
        arguments.push(daemon.run(&["nix-store", "--add", &file]).text().trim().to_owned());
    }
    let begin = std::time::Instant::now();
    says(&host.bucket(&arguments.iter().map(String::as_str).collect::<Vec<_>>()), 0, "published 6 paths");
    let took = begin.elapsed();
    let size = |name: &String| bucket.join("nar").join(name).metadata().unwrap().len();
    let sizes: Vec<_> = names(&bucket, "nar").iter().map(size).collect();
    // The last one is written when the time of those before it has passed.
    let paced = sizes.iter().sum::<u64>() - sizes.iter().max().unwrap();
    assert!(paced > 1_000_000, "{sizes:?}");
    assert!(took.as_millis() >= u128::from(paced * 1000 / RATE), "{took:?} for {sizes:?}");
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
