//! A server that is killed in the middle of each step of a push. Afterwards the path is valid and right or it is not there, and
//! the spool is empty; the same push then succeeds.

use std::fs;
use std::thread;

use super::source::{File, Source};
use super::{Cache, put};
use crate::nix::release::Release;

/// Size of a NAR that takes long enough in each step for another process to notice, in bytes.
const LARGE: usize = 64 << 20;

/// Sign that a step has begun.
type HasBegun = fn(&Cache, &str) -> bool;

/// Returns whether the spool has a file with this extension and at least this size.
fn has_file(cache: &Cache, extension: &str, size: u64) -> bool {
    let Ok(entries) = cache.state.join("spool").read_dir() else { return false };
    entries.flatten().any(|entry| {
        entry.path().extension().is_some_and(|it| it == extension) && entry.metadata().is_ok_and(|it| it.len() >= size)
    })
}

const STEPS: [(&str, HasBegun); 5] = [
    ("a part of the file is in the spool", |cache, _| has_file(cache, "part", 1)),
    ("the whole file is in the spool", |cache, _| has_file(cache, "nar", 1)),
    ("nix-daemon writes the path", |cache, path| cache.daemon.on_host(path).exists()),
    ("nix-daemon has written the path", |cache, path| {
        cache.daemon.on_host(path).metadata().is_ok_and(|it| it.len() == LARGE as u64)
    }),
    ("the path is kept", |cache, path| {
        let hash = crate::support::store_item::hash_part(path);
        fs::symlink_metadata(cache.state.join("pushed").join(hash)).is_ok()
    }),
];

fn push(cache: &Cache, files: &[File; 2]) -> Option<()> {
    for file in files {
        let mut connection = cache.harmonia.http().connect().ok()?;
        let head =
            format!("PUT /{} HTTP/1.1\r\nHost: c\r\nContent-Length: {}\r\n\r\n", file.target, file.content.len());
        connection.send(head.as_bytes()).ok()?;
        connection.send(&file.content).ok()?;
        connection.receive(false).ok()?;
    }
    Some(())
}

#[test]
fn a_server_that_is_killed_in_any_step_leaves_no_half_path() {
    for release in [Release::Nix2_3, Release::Nix2_34] {
        let source = Source::new(Release::Nix2_34, '3', LARGE);
        let files = source.files(&source.leaf);
        for (step, has_begun) in STEPS {
            let mut cache = Cache::start(release);
            let begun = thread::scope(|scope| {
                let push = scope.spawn(|| push(&cache, &files));
                while !has_begun(&cache, &source.leaf) && !push.is_finished() {
                    thread::yield_now();
                }
                let begun = has_begun(&cache, &source.leaf);
                // Without a wait for its end, which needs the cache for itself.
                cache.harmonia.send_kill();
                let _ = push.join().unwrap();
                begun
            });
            assert!(begun, "{release}: {step} was not seen");
            cache.harmonia.kill();
            // nix-daemon notices that its client is gone.
            while cache.daemon.processes().len() > 1 {
                thread::yield_now();
            }
            cache.restart();
            assert_eq!(cache.spooled(), 0, "{release}: {step}");
            if cache.is_valid(&source.leaf) {
                let _ = cache.daemon.run(&["nix-store", "--verify-path", &source.leaf]).stdout();
            } else {
                assert_eq!(
                    cache.harmonia.http().get(&format!("/{}", files[1].target)).status,
                    404,
                    "{release}: {step}"
                );
            }
            for file in &files {
                assert_eq!(put(cache.harmonia.http(), file).status, 200, "{release}: {step}");
            }
            assert!(cache.is_valid(&source.leaf), "{release}: {step}");
            let _ = cache.daemon.run(&["nix-store", "--verify-path", &source.leaf]).stdout();
            let kept: Vec<_> =
                cache.state.join("pushed").read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
            assert_eq!(kept, [crate::support::store_item::hash_part(&source.leaf)], "{release}: {step}");
        }
    }
}
