//! GC protection: served paths, and paths that are being sent, survive real garbage collections of each release.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, flock};

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::metrics::{await_that, await_value, metrics, value as series};
use crate::support::narinfo::value;
use crate::support::scripted_daemon::{GcOperation, Query, Reply, Script, ScriptedDaemon, protect};
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::{LAST, Wire};

const ROOTS: &str = "harmonia_gc_roots";
const ROOTED: &str = "harmonia_gc_root_requests_total{result=\"rooted\"}";
/// Number of files in the tree, and the size of each: together more than all buffers between a store and a client.
const FILES: usize = 32;
const SIZE: usize = 1 << 20;
/// Time in which nix-daemon ends a root after its connection is closed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a server that reads the files of the daemon's store.
fn before(daemon: &Daemon, lease: u32) -> Harmonia {
    Harmonia::start(&format!(
        "daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\ngc_protection = {lease}\n",
        daemon.socket().display(),
        daemon.on_host("/nix/store").display()
    ))
}

fn narinfo_url(path: &str) -> String {
    format!("/{}.narinfo", hash_part(path))
}

fn collect(daemon: &Daemon) {
    let _ = daemon.run(&["nix-store", "--gc"]).stdout();
}

fn is_valid(daemon: &Daemon, path: &str) -> bool {
    daemon.run(&["nix-store", "--check-validity", path]).succeeded()
}

/// Adds a directory whose last files are not open yet while its first ones are sent.
fn add_tree(daemon: &Daemon) -> String {
    let path = format!("/nix/store/{}-tree", "5".repeat(32));
    let directory = daemon.on_host(&path);
    fs::create_dir(&directory).unwrap();
    for number in 0..FILES {
        let byte = u8::try_from(number).unwrap();
        fs::write(directory.join(format!("{number:02}")), vec![byte; SIZE]).unwrap();
    }
    daemon.register(&path);
    path
}

/// Collects garbage until this path is deleted. Its root ends with nix-daemon's process for the connection, which takes a
/// moment to notice that the connection is closed.
fn collect_until_gone(daemon: &Daemon, path: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while is_valid(daemon, path) {
        assert!(Instant::now() < deadline, "{path} is protected for ever by {}", daemon.release());
        collect(daemon);
    }
}

/// Download that has begun and whose client pauses.
struct Download {
    stream: TcpStream,
    nar_hash: String,
}

impl Download {
    fn begin(harmonia: &Harmonia, path: &str) -> Self {
        let narinfo = harmonia.http().get(&narinfo_url(path));
        let (url, nar_hash) = (value(narinfo.text(), "URL"), value(narinfo.text(), "NarHash").to_owned());
        let mut stream = TcpStream::connect(harmonia.address()).unwrap();
        let request = format!("GET /{url} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(status, *b"HTTP/1.1 200");
        Self { stream, nar_hash }
    }

    /// Returns whether the rest arrives and is correct.
    fn completes(mut self) -> bool {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        let head = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let hash = digest(&SHA256, &rest[head + 4..]);
        let spec = data_encoding::Specification {
            symbols: "0123456789abcdfghijklmnpqrsvwxyz".to_owned(),
            bit_order: data_encoding::BitOrder::LeastSignificantFirst,
            ..data_encoding::Specification::new()
        };
        // Nix writes it backwards.
        let text: String = spec.encoding().unwrap().encode(hash.as_ref()).chars().rev().collect();
        self.nar_hash == format!("sha256:{text}")
    }
}

#[test]
fn a_served_path_survives_gc_until_its_protection_ends() {
    for release in Release::ALL {
        let daemon = Daemon::start(release);
        let (given, other) = (daemon.content().path("regular"), daemon.content().path("executable"));
        let harmonia = before(&daemon, 300);
        assert_eq!(harmonia.http().get(&narinfo_url(given)).status, 200);
        await_value(harmonia.http(), ROOTED, 1.0);
        collect(&daemon);
        assert!(is_valid(&daemon, given) && !is_valid(&daemon, other), "{release}");
        drop(harmonia);

        let harmonia = before(&daemon, 1);
        assert_eq!(harmonia.http().get(&narinfo_url(given)).status, 200);
        await_value(harmonia.http(), ROOTED, 1.0);
        await_value(harmonia.http(), ROOTS, 0.0);
        collect_until_gone(&daemon, given);
        assert_eq!(harmonia.http().get(&narinfo_url(given)).status, 404, "{release}");
    }
}

#[test]
fn a_slow_download_survives_gc_after_its_protection_ends() {
    for release in Release::ALL {
        let daemon = Daemon::start(release);
        let tree = add_tree(&daemon);
        let harmonia = before(&daemon, 1);
        let http = harmonia.http();
        let other = daemon.content().path("regular");
        let download = Download::begin(&harmonia, &tree);
        assert_eq!(http.get(&narinfo_url(other)).status, 200);
        // The tree, the other, and the tree again in four later generations: the first is over then.
        await_that(http, ROOTED, |rooted| rooted >= Some(6.0));
        collect(&daemon);
        assert!(is_valid(&daemon, &tree) && !is_valid(&daemon, other), "{release}");
        assert!(download.completes(), "{release}");
        await_value(http, ROOTS, 0.0);
        collect_until_gone(&daemon, &tree);
    }
}

#[test]
fn gc_protection_of_0_protects_not_even_a_running_download() {
    for release in Release::ALL {
        let daemon = Daemon::start(release);
        let tree = add_tree(&daemon);
        let harmonia = before(&daemon, 0);
        let download = Download::begin(&harmonia, &tree);
        collect(&daemon);
        assert!(!is_valid(&daemon, &tree), "{release}");
        assert!(!download.completes(), "{release}");
        assert_eq!(series(&metrics(harmonia.http()), ROOTED), Some(0.0));
    }
}

/// The collector holds its lock. Later releases add a GC root in the middle of a collection.
#[test]
fn gc_of_nix_2_3_blocks_no_download() {
    let daemon = Daemon::start(Release::Nix2_3);
    let harmonia = before(&daemon, 300);
    let file = daemon.on_host("/nix/var/nix/gc.lock");
    let lock = File::options().write(true).create(true).truncate(false).open(file).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    for name in ["regular", "executable", "large"] {
        assert!(Download::begin(&harmonia, daemon.content().path(name)).completes(), "{name}");
    }
    assert_eq!(series(&metrics(harmonia.http()), ROOTED), Some(0.0));
    drop(lock);
    await_value(harmonia.http(), ROOTED, 3.0);
}

#[test]
fn gc_protection_works_with_a_daemon_command() {
    let daemon = Daemon::start(Release::Nix2_26);
    let harmonia = Harmonia::start(&format!("daemon_command = [\"{}\"]\n", daemon.stdio_command().display()));
    let given = daemon.content().path("regular");
    assert_eq!(harmonia.http().get(&narinfo_url(given)).status, 200);
    await_value(harmonia.http(), ROOTED, 1.0);
    collect(&daemon);
    assert!(is_valid(&daemon, given) && !is_valid(&daemon, daemon.content().path("executable")));
}

/// Replies of a daemon whose path was collected before its GC root was added.
fn collected(item: &StoreItem) -> Script {
    item.script().protecting(|operation| match operation {
        GcOperation::Root(_) | GcOperation::Link(_) | GcOperation::Roots => protect(operation),
        GcOperation::StillValid(_) => Wire::new().number(LAST).strings(&[""; 0]).into(),
    })
}

#[test]
fn a_path_collected_before_its_root_was_added_is_dropped_from_memory() {
    let item = StoreItem::file(b"collected");
    let daemon = ScriptedDaemon::start(collected(&item));
    let harmonia = Harmonia::start(&daemon.config());
    let http = harmonia.http();
    assert_eq!(http.get(&item.narinfo_url()).status, 200);
    await_value(http, "harmonia_narinfo_cache_entries", 0.0);
    daemon.play(Script::replying(|_| Wire::new().number(LAST).string("").into()));
    assert_eq!(http.get(&item.narinfo_url()).status, 404);
}

#[test]
fn the_nar_of_a_path_collected_meanwhile_is_a_404_without_a_dump() {
    let item = StoreItem::file(b"collected");
    let daemon = ScriptedDaemon::start(collected(&item));
    let harmonia = Harmonia::start(&daemon.config());
    assert_eq!(harmonia.http().get(&item.nar_url()).status, 404);
    assert!(!daemon.seen().queries.contains(&Query::Nar(item.path.clone())));
    assert_eq!(daemon.seen().rooted, [item.path]);
}

#[test]
fn a_daemon_that_refuses_gc_roots_is_logged_once_and_used() {
    let refusals: [fn() -> Reply; 2] =
        [|| Wire::new().error("no roots for you").into(), || Reply::then_disconnect(Wire::new().number(LAST).done())];
    for refusal in refusals {
        let item = StoreItem::file(b"not kept");
        let daemon = ScriptedDaemon::start(item.script().protecting(move |_| refusal()));
        let harmonia = Harmonia::start(&daemon.config());
        let http = harmonia.http();
        for _ in 0..3 {
            assert_eq!(http.get(&item.narinfo_url()).status, 200);
            assert_eq!(http.get(&item.nar_url()).body, item.nar);
        }
        let line = harmonia.wait_for_log("cannot protect served paths from the garbage collector: ");
        assert!(line.contains("WARN"), "{line}");
        assert_eq!(harmonia.log().matches("cannot protect served paths").count(), 1, "{}", harmonia.log());
    }
}
