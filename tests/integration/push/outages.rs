//! A daemon that goes down while a path is pushed.

use std::thread;
use std::time::{Duration, Instant};

use super::source::Source;
use super::{Cache, put};
use crate::nix::release::Release;

/// Size of a NAR that no daemon adds in the time that another process needs to notice its beginning, in bytes.
const LARGE: usize = 128 << 20;

/// Upper bound of a wait: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the daemon again, and waits until harmonia has reached it: after an outage requests do not wait for a slow handshake.
fn restart(cache: &mut Cache, release: Release) {
    cache.daemon.restart(release);
    let deadline = Instant::now() + TIMEOUT;
    while cache.harmonia.http().get("/ready").status != 200 {
        assert!(Instant::now() < deadline, "Nix {release} is back, and is not found");
        thread::yield_now();
    }
}

#[test]
fn what_was_uploaded_is_added_once_the_daemon_is_back() {
    for release in Release::ALL {
        let mut cache = Cache::start(release);
        let source = Source::new(Release::Nix2_34, '3', LARGE);
        let [nar, narinfo] = source.files(&source.leaf);
        let http = cache.harmonia.http();
        assert_eq!(put(http, &nar).status, 200);
        cache.daemon.stop();
        let refused = put(http, &narinfo);
        assert!(matches!(refused.status, 502 | 503), "{}", refused.text());
        assert!(refused.text().ends_with("nix-daemon on the cache's machine did not answer; push again later\n"));

        restart(&mut cache, release);
        let begun = cache.daemon.on_host(&source.leaf);
        let refused = thread::scope(|scope| {
            let push = scope.spawn(|| put(http, &narinfo));
            while !begun.exists() {
                assert!(!push.is_finished(), "{}", push.join().unwrap().text());
                thread::yield_now();
            }
            cache.daemon.stop();
            push.join().unwrap()
        });
        assert!(matches!(refused.status, 502 | 503), "{release}: {} {}", refused.status, refused.text());
        assert!(refused.text().contains("push again later"), "{}", refused.text());
        restart(&mut cache, release);
        assert!(!cache.is_valid(&source.leaf));
        assert_eq!(cache.spooled(), 1);

        assert_eq!(put(http, &narinfo).status, 200);
        assert!(cache.is_valid(&source.leaf));
        let _ = cache.daemon.run(&["nix-store", "--verify-path", &source.leaf]).stdout();
        assert_eq!(cache.spooled(), 0);
    }
}
