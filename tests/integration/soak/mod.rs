//! Soak test: clients of all kinds, a real nix-daemon that is killed and paused, files of the NAR cache that are damaged,
//! garbage collections, reloads and restarts of the server, all at random from a seed that is printed. Some clients push.
//!
//! No body is ever wrong, no valid path is ever 404, no pushed path is half there or lost, and no request hangs. After the faults everything is served, and the
//! server has freed its resources.
//!
//! The short form is one of the tests. The long one is started manually, configured by environment variables:
//!
//!     HARMONIA_SOAK_SECONDS=600 HARMONIA_SOAK_SEED=1 \
//!         cargo test --test integration soak -- --ignored --nocapture

mod clients;
mod faults;
mod others;
mod pushers;
mod truth;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::clients::{Tally, Visitor, count};
use self::faults::{Fault, Plant, add_paths, files};
use self::pushers::{Pusher, Pushes};
use self::truth::{Compressed, TruePath};
use crate::nix::client::Client;
use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::dice::{Dice, soak_length, soak_seed};
use crate::support::footprint::{await_descriptors, descriptors, memory, most_memory};
use crate::support::http::Http;
use crate::support::keys;
use crate::support::metrics::await_value;
use crate::support::scratch;

const LONG: Duration = Duration::from_secs(600);
/// Numbers of clients: HTTP/1.1, HTTP/2, Nix, and those that push.
const VISITORS: usize = 6;
const STREAMERS: usize = 2;
const COPIERS: usize = 2;
const PUSHERS: usize = 3;
/// Number of paths that the garbage collector may delete.
const PASSING: usize = 6;
/// Limit on connections to nix-daemon: for queries, for NARs, and one that holds GC roots.
const CONNECTIONS: [usize; 3] = [3, 4, 1];
/// Descriptors of an idle server: standard streams, listeners, timers, locks.
const DESCRIPTORS: usize = 32;
/// Limit on memory at the end, in bytes, which includes what the allocator keeps.
const MEMORY: u64 = 250 << 20;

/// State that all clients share.
struct World {
    address: SocketAddr,
    /// Paths that stay, then paths that may be collected.
    paths: Vec<TruePath>,
    compressed: Compressed,
    tally: Tally,
    /// NARs of paths that a response called added.
    pushed: Mutex<HashMap<String, Vec<u8>>>,
    pushes: Pushes,
    over: AtomicBool,
}

impl World {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Checks that harmonia answers 502 for a path that was never requested, since all others may be cached.
    fn is_told_that_nothing_can_be_said(&self) {
        let response = Http::new(self.address).get(&format!("/{:032}.narinfo", 0));
        assert!(response.status == 502, "{}", response.status);
        count(&self.tally.unavailable);
    }

    fn staying(&self) -> &[TruePath] {
        &self.paths[..self.paths.len() - PASSING]
    }

    fn passing(&self) -> impl Iterator<Item = &TruePath> {
        self.paths[self.paths.len() - PASSING..].iter()
    }
}

/// Guard that ends the soak for all threads when one panics.
struct EndsWithMe<'w>(&'w World);

impl Drop for EndsWithMe<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.over.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn for_a_while_nobody_gets_what_is_wrong_and_then_everybody_gets_everything() {
    soak(None);
}

#[test]
#[ignore = "takes ten minutes"]
fn for_long_nobody_gets_what_is_wrong_and_then_everybody_gets_everything() {
    soak(Some(soak_length().unwrap_or(LONG)));
}

/// Causes every fault once, or repeatedly for this long.
fn soak(length: Option<Duration>) {
    let seed = soak_seed();
    let mut dice = Dice::of(seed, 0);
    let release = *dice.pick(&Release::ALL);
    eprintln!("a soak before {release}: HARMONIA_SOAK_SEED={seed}");
    let (mut plant, world) = set_up(release);
    let world = &world;
    let suffered = thread::scope(|scope| {
        let _ending = EndsWithMe(world);
        let mut actors = (1..).map(|actor| Dice::of(seed, actor));
        for dice in actors.by_ref().take(VISITORS) {
            let mut visitor = Visitor::new(world, dice);
            scope.spawn(move || again_and_again(world, || visitor.visit()));
        }
        for mut dice in actors.by_ref().take(STREAMERS) {
            scope.spawn(move || again_and_again(world, || others::streams(world, &mut dice)));
        }
        for mut dice in actors.by_ref().take(COPIERS) {
            scope.spawn(move || again_and_again(world, || others::copy(world, &mut dice)));
        }
        for (number, dice) in actors.by_ref().take(PUSHERS).enumerate() {
            let mut pusher = Pusher::new(world, dice, number);
            scope.spawn(move || again_and_again(world, || pusher.push()));
        }
        let mut suffered = plant.suffer_all(world, &mut dice, |_| false);
        let (begin, length) = (Instant::now(), length.unwrap_or_default());
        while begin.elapsed() < length && !world.is_over() {
            // In the second half the server is left alive, so that what it leaks adds up.
            let without = if begin.elapsed() < length / 2 { |_| false } else { Fault::ends_the_server };
            suffered.extend(plant.suffer_all(world, &mut dice, without));
        }
        world.over.store(true, Ordering::Relaxed);
        suffered
    });
    let mut faults = BTreeMap::new();
    for fault in suffered {
        *faults.entry(format!("{fault:?}")).or_insert(0) += 1;
    }
    eprintln!("{faults:?}\n{:?}\n{:?}", world.tally, world.pushes);
    plant.add_paths(world);
    all_is_well(&plant, world);
    pushers::all_is_right(&plant, world);
    nothing_is_held(&plant);
}

fn again_and_again(world: &World, mut act: impl FnMut()) {
    let _ending = EndsWithMe(world);
    while !world.is_over() {
        act();
    }
}

fn set_up(release: Release) -> (Plant, World) {
    let config = [
        "substitute = false".to_owned(),
        "trusted-users = nobody".to_owned(),
        format!("trusted-public-keys = {}", keys::FOREIGN.public),
    ];
    let prefix = Prefix::new(release, &config);
    let content = Content::populate(&prefix);
    let daemon = Daemon::on(prefix, content);
    let roots = daemon.on_host("/nix/var/nix/gcroots");
    fs::create_dir_all(&roots).unwrap();
    let mut paths = Vec::new();
    for (name, path) in daemon.content().iter() {
        symlink(path, roots.join(name)).unwrap();
        paths.push(TruePath::of(&daemon, path));
    }
    paths.extend(add_paths(&daemon, PASSING).iter().map(|path| TruePath::of(&daemon, path)));

    let dir = scratch::fresh_dir();
    let (config, nars, state) = (dir.join("config.toml"), dir.join("nars"), dir.join("state"));
    fs::create_dir(&state).unwrap();
    let push = pushers::config(&state);
    let configure = |address: &str| {
        let [queries, dumps, _] = CONNECTIONS;
        let text = format!(
            "bind = \"{address}\"\ndaemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nreal_nix_store = \"{}\"\n\
             max_metadata_connections = {queries}\nmax_nar_connections = {dumps}\nshutdown_timeout = 1\n\
             enable_compression = true\nzstd.level = 1\nnarinfo_cache.ttl = 1\n\
             state_dir = \"{}\"\nnar_cache.dir = \"{}\"\nnar_cache.max_size = \"100 MiB\"\n{push}",
            daemon.socket().display(),
            keys::OURS.secret.display(),
            // In sight, so that a path that goes is missed at once.
            daemon.on_host("/nix/store").display(),
            state.display(),
            nars.display(),
        );
        fs::write(&config, text).unwrap();
    };
    // Nobody's outgoing connections are from here, so that the port stays free between two servers.
    configure("127.0.0.2:0");
    let address = Plant::launch(&config).address();
    configure(&address.to_string());
    let server = Plant::launch(&config);
    let plant = Plant { daemon, server, config, nars, state };
    let (compressed, tally, over) = (Compressed::default(), Tally::default(), AtomicBool::new(false));
    (plant, World { address, paths, compressed, tally, pushed: Mutex::default(), pushes: Pushes::default(), over })
}

/// Checks that everything is served, by HTTP and to Nix.
fn all_is_well(plant: &Plant, world: &World) {
    let http = plant.server.http();
    assert!((0..1000).any(|_| http.get("/ready").status == 200), "the daemon is there, and is not found");
    let mut visitor = Visitor::new(world, Dice::of(0, 0));
    // A file that has rotted meanwhile breaks the body of whoever reads it first.
    for path in &world.paths {
        visitor.compressed_nar(path);
    }
    let before = world.tally.right.load(Ordering::Relaxed);
    for path in &world.paths {
        assert!(visitor.narinfo(path).is_some(), "no narinfo of {}", path.path);
        visitor.nar(path);
        // And its narinfo.
        visitor.compressed_nar(path);
    }
    let right = world.tally.right.load(Ordering::Relaxed) - before;
    assert_eq!(right, 4 * world.paths.len() as u64, "{:?}", world.tally);

    let client = Client::new(Release::Nix2_34, plant.server.url(), &[&keys::OURS]);
    let all: Vec<_> = world.paths.iter().map(|path| path.path.as_str()).collect();
    let _ = client.copy(&all).stdout();
    let copied = client.verified_closure(&all);
    assert!(all.iter().all(|path| copied.iter().any(|copied| copied == path)), "{copied:?}");
}

/// Checks that requests, fills, incomplete files, connections to nix-daemon and memory are back to those of an idle server.
fn nothing_is_held(plant: &Plant) {
    let (http, pid) = (plant.server.http(), plant.server.pid());
    // The one that asks.
    await_value(http, "harmonia_http_requests_in_flight", 1.0);
    await_value(http, "harmonia_nar_cache_fills", 0.0);
    assert_eq!(files(&plant.nars.join("tmp")), Vec::<PathBuf>::new());
    let conversations = plant.daemon.processes().len() - 1;
    let connections: usize = CONNECTIONS.iter().sum();
    assert!(conversations <= connections, "{conversations} conversations with the daemon");
    // Some files of the cache stay open, by a bound of its own.
    await_descriptors(pid, DESCRIPTORS + connections, |to| !to.starts_with(&plant.nars));
    let (now, most) = (memory(pid), most_memory(pid));
    eprintln!(
        "{conversations} conversations, {} descriptors, {now} bytes of memory, {most} at most",
        descriptors(pid).len()
    );
    assert!(now <= MEMORY, "{now} bytes of memory");
}
