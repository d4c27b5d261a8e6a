//! Several clients with the same closure, and HTTP/2.

use std::fs;
use std::process::Command;
use std::thread;

use super::Cache;
use super::source::Source;
use crate::nix::client::nar_hashes;
use crate::nix::release::Release;
use crate::support::scratch;

#[test]
fn clients_push_the_same_closure_at_once() {
    for daemon in [Release::Nix2_3, Release::Nix2_34] {
        let cache = Cache::start(daemon);
        let same = Source::new(Release::Nix2_34, '3', 4 << 20);
        let to = format!("{}?compression=none", cache.harmonia.url());
        thread::scope(|scope| {
            let pushes: Vec<_> =
                (0..4).map(|_| scope.spawn(|| same.push(&to, &[&same.top, &same.addressed]).stdout())).collect();
            for push in pushes {
                push.join().unwrap();
            }
        });
        let pushed = [&*same.top, &*same.leaf, &*same.addressed];
        assert_eq!(cache.daemon.run(&nar_hashes(&pushed)).text(), same.nar_hashes(&pushed));
        assert_eq!(cache.spooled(), 0);
    }
}

#[test]
fn a_path_is_pushed_over_http_2() {
    let cache = Cache::start(Release::Nix2_34);
    let source = Source::new(Release::Nix2_34, '3', 4 << 20);
    for file in source.files(&source.leaf) {
        let local = scratch::fresh_dir().join("file");
        fs::write(&local, &file.content).unwrap();
        let output = Command::new("curl")
            .args([
                "--silent",
                "--http2-prior-knowledge",
                "--output",
                "-",
                "--write-out",
                "%{http_version} %{http_code}",
            ])
            .arg("--upload-file")
            .arg(&local)
            .arg(format!("{}/{}", cache.harmonia.url(), file.target))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "OK\n2 200", "{}", file.target);
    }
    assert!(cache.is_valid(&source.leaf));
}
