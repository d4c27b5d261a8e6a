//! Real nix-daemons that stop under load, return as another release, or refuse harmonia for a while: valid paths are never
//! 404 but 502 meanwhile, `/ready` tells the reason, and queries after the outage succeed.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::Http;
use crate::support::metrics::await_value;
use crate::support::nar_cache::decoded;
use crate::support::narinfo::value;
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

/// Upper bound of the wait until an outage is noticed: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(60);

fn config(daemon: &Daemon) -> String {
    let (socket, store) = (daemon.socket(), daemon.on_host("/nix/store"));
    format!("daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\n", socket.display(), store.display())
}

fn narinfo_url(path: &str) -> String {
    format!("/{}.narinfo", hash_part(path))
}

/// Client that repeats a request until the end of the test, and its results.
struct Load<'a> {
    http: Http,
    url: String,
    /// Expected body of every 200.
    body: Vec<u8>,
    stop: &'a AtomicBool,
    served: AtomicUsize,
    unavailable: AtomicUsize,
}

impl<'a> Load<'a> {
    fn new(http: Http, url: String, stop: &'a AtomicBool) -> Self {
        let body = http.get(&url).body;
        Self { http, url, body, stop, served: AtomicUsize::new(0), unavailable: AtomicUsize::new(0) }
    }

    fn run(&self) {
        let request = format!("GET {} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n", self.url);
        while !self.stop.load(Ordering::Relaxed) {
            let counter = match self.http.request(request.as_bytes()) {
                Ok(response) if response.complete && response.status == 200 => {
                    assert!(response.body == self.body, "{}: a wrong body", self.url);
                    &self.served
                }
                Ok(response) if response.status == 502 => &self.unavailable,
                Ok(response) if response.complete || response.status != 200 => {
                    panic!("{}: {}", self.url, response.status);
                }
                // Broken off, be it before its head.
                Ok(_) | Err(_) => continue,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for one more success.
    fn await_served(&self) {
        await_more(&self.served, &self.url);
    }

    fn await_unavailable(&self) {
        await_more(&self.unavailable, &self.url);
    }
}

fn await_more(counter: &AtomicUsize, what: &str) {
    let (before, deadline) = (counter.load(Ordering::Relaxed), Instant::now() + TIMEOUT);
    while counter.load(Ordering::Relaxed) == before {
        assert!(Instant::now() < deadline, "{what} is stuck");
        thread::yield_now();
    }
}

/// Requests a narinfo until it is served: on a busy machine a connection to nix-daemon takes longer than the first request waits.
fn await_narinfo(http: Http, path: &str) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match http.get(&narinfo_url(path)).status {
            200 => return,
            status => assert!(status == 502 && Instant::now() < deadline, "{path}: {status}"),
        }
    }
}

/// Stops clients at its end, also at that of a test that fails: they would go on otherwise, and the test with them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_ready(http: Http) {
    assert_eq!((http.get("/ready").status, http.get("/ready").text()), (200, "ready\n"));
}

fn is_not_ready(http: Http, why: &str) {
    let response = http.get("/ready");
    assert_eq!((response.status, response.text()), (503, &*format!("{why}\n")));
}

/// Waits until `/metrics` is the only request and no connection to nix-daemon is in use.
fn nothing_is_stuck(http: Http) {
    await_value(http, "harmonia_http_requests_in_flight", 1.0);
    for pool in ["metadata", "nar"] {
        await_value(http, &format!("harmonia_daemon_pool_in_use{{pool=\"{pool}\"}}"), 0.0);
        await_value(http, &format!("harmonia_daemon_pool_waiting{{pool=\"{pool}\"}}"), 0.0);
    }
}

fn goes_away_and_comes_back(before: Release, after: Release) {
    let mut daemon = Daemon::start(before);
    let path = daemon.content().path("regular").to_owned();
    let large = daemon.content().path("large").to_owned();
    let never_asked = daemon.content().path("many-references").to_owned();
    let remembering = Harmonia::start(&config(&daemon));
    let forgetting = Harmonia::start(&format!("{}narinfo_cache.max_size = 0\n", config(&daemon)));
    let nar = |path: &str| {
        let narinfo = forgetting.http().get(&narinfo_url(path));
        format!("/{}", value(narinfo.text(), "URL"))
    };
    let stop = AtomicBool::new(false);
    let known = Load::new(remembering.http(), narinfo_url(&path), &stop);
    let asked = Load::new(forgetting.http(), narinfo_url(&path), &stop);
    let small = Load::new(forgetting.http(), nar(&path), &stop);
    let download = Load::new(forgetting.http(), nar(&large), &stop);
    let all = [&known, &asked, &small, &download];
    thread::scope(|scope| {
        let stopping = Stop(&stop);
        let threads: Vec<_> = all.iter().map(|load| scope.spawn(|| load.run())).collect();
        for load in all {
            load.await_served();
        }
        daemon.stop();
        for load in [&asked, &small, &download] {
            load.await_unavailable();
        }
        // What is known and still there is served all the while.
        known.await_served();
        for server in [&remembering, &forgetting] {
            is_not_ready(server.http(), "nix-daemon is unreachable");
            assert_eq!(server.http().get(&narinfo_url(&never_asked)).status, 502);
        }
        daemon.restart(after);
        for server in [&remembering, &forgetting] {
            await_narinfo(server.http(), &never_asked);
            is_ready(server.http());
        }
        for load in all {
            load.await_served();
        }
        drop(stopping);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert_eq!(known.unavailable.into_inner(), 0);
    for server in [&remembering, &forgetting] {
        nothing_is_stuck(server.http());
    }
}

#[test]
fn requests_wait_for_a_daemon_that_restarts_under_load() {
    goes_away_and_comes_back(Release::Nix2_34, Release::Nix2_34);
}

#[test]
fn an_upgraded_daemon_is_spoken_to_in_its_own_protocol_version() {
    goes_away_and_comes_back(Release::Nix2_3, Release::Nix2_26);
    goes_away_and_comes_back(Release::Nix2_8, Release::Nix2_34);
}

#[test]
fn a_daemon_that_refuses_connections_is_a_502_and_cached_narinfos_are_served() {
    for release in Release::ALL {
        let mut daemon = Daemon::start(release);
        let (known, unknown) =
            (daemon.content().path("regular").to_owned(), daemon.content().path("symlink").to_owned());
        let harmonia = Harmonia::start(&format!("{}narinfo_cache.ttl = 0\n", config(&daemon)));
        let http = harmonia.http();
        let narinfo = http.get(&narinfo_url(&known));
        let file: PathBuf = daemon.on_host("/nix/etc/nix.conf");
        let allowing = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{allowing}trusted-users = nobody\nallowed-users = nobody\n")).unwrap();
        daemon.stop();
        daemon.restart(release);
        is_not_ready(http, "nix-daemon refuses this user");
        assert_eq!(http.get(&narinfo_url(&unknown)).status, 502, "{release}");
        assert_eq!(http.get(&narinfo_url(&known)).body, narinfo.body, "{release}");
        harmonia.wait_for_log("in allowed-users of nix.conf");
        fs::write(&file, allowing).unwrap();
        daemon.stop();
        daemon.restart(release);
        await_narinfo(http, &unknown);
        is_ready(http);
        nothing_is_stuck(http);
    }
}

#[test]
fn nars_in_the_cache_are_served_without_the_daemon() {
    let mut daemon = Daemon::start(Release::Nix2_34);
    let path = daemon.content().path("many-references").to_owned();
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&format!(
        "{}nar_source = \"daemon\"\nenable_compression = true\nnar_cache.dir = \"{}\"\n",
        config(&daemon),
        dir.display()
    ));
    let http = harmonia.http();
    let narinfo = http.get(&narinfo_url(&path));
    let compressed = format!("/{}", value(narinfo.text(), "URL"));
    let nar = decoded(&http.get(&compressed).body);
    await_value(http, "harmonia_nar_cache_entries", 1.0);
    let nar_hash = value(narinfo.text(), "NarHash").strip_prefix("sha256:").unwrap();
    let plain = format!("/nar/{}-{nar_hash}.nar", hash_part(&path));
    daemon.stop();
    assert!(decoded(&http.get(&compressed).body) == nar);
    assert!(http.get(&plain).body == nar);
    assert!(http.get_with(&plain, &[("Range", "bytes=9-")]).body == nar[9..]);
    // A listing is made of the daemon's dump.
    assert_eq!(http.get(&format!("/{}.ls", hash_part(&path))).status, 502);
}
